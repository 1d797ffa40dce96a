/// Decides when to ask the far side for a sign of life, and when its silence means that it is gone. Pure but for the monotonic clock.
struct LivenessWatch {
  private let interval: UInt64
  /// When the oldest question that nothing has followed was asked.
  private var askedAt: UInt64?
  private var sentAt: UInt64
  private var heardAt: UInt64 = 0

  /// Questions in a row that may stay without an answer.
  private static let patience: UInt64 = 3

  /// Seconds; libssh2 takes no less.
  static let shortestInterval: UInt32 = 2

  init(interval: Duration) {
    self.interval = max(Deadline.span(interval), UInt64(LivenessWatch.shortestInterval) * 1_000_000_000)
    sentAt = Deadline.now
  }

  /// Something was asked that the far side must react to.
  mutating func asked() { if askedAt == nil { askedAt = Deadline.now } }

  /// A keepalive was due.
  /// - Parameter really: False where libssh2 kept it back because the wall clock was set back: then silence means nothing.
  mutating func sent(really: Bool) {
    sentAt = Deadline.now
    if really { asked() }
  }

  /// The far side reacted.
  mutating func heard() { askedAt = nil }

  /// - Parameter silence: Milliseconds since the kernel received data.
  mutating func update(millisecondsSinceData silence: UInt32) {
    let now = Deadline.now
    let span = UInt64(silence) &* 1_000_000
    heardAt = span < now ? now &- span : 0
    if let askedAt, heardAt > askedAt { heard() }
  }

  /// Asked only after a time of silence: libssh2 keeps every reply in its queue, so that there had better be few.
  var isDue: Bool { Deadline.now &- max(sentAt, heardAt) >= interval }

  var isDead: Bool {
    guard let askedAt else { return false }
    return Deadline.now &- askedAt > interval &* LivenessWatch.patience
  }

  /// Milliseconds, at least 1.
  var millisecondsToNext: Int {
    let passed = Deadline.now &- max(sentAt, heardAt)
    return passed >= interval ? 100 : Int((interval - passed) / 1_000_000) + 1
  }
}
