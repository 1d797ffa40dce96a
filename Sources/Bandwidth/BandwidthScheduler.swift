import SyncModel

/// Lets bytes pass no faster than the service's rate and the instrument's timetable allow.
///
/// The data path awaits `acquire(bytes:equipment:)` before it sends a piece. Limits may change while somebody waits: the line is looked at
/// again whenever a timetable changes its rate, and at least every 30 seconds, so that a workstation's clock that was set is noticed.
package actor BandwidthScheduler {
  /// Nobody sleeps longer without a look at the clock on the wall, nanoseconds.
  package static let longestSleep: UInt64 = 30_000_000_000
  /// Shorter sleeps cost more than they give: the buckets hold what is earned meanwhile.
  static let shortestSleep: UInt64 = 2_000_000

  private struct Waiter {
    let equipment: String
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct Timer {
    let number: UInt64
    let deadline: UInt64
    let task: Task<Void, Never>
  }

  private let clock: any SyncClock
  private var ledger: BandwidthLedger
  private var waiters: [UInt64: Waiter] = [:]
  private var timer: Timer?
  private var lastNumber: UInt64 = 0

  /// - Parameters:
  ///   - serviceMbps: Mbit/s (10^6 bit/s) for all instruments together, nil for no limit.
  ///   - profiles: The timetables by the instruments' ids; an instrument without one is limited by the service's rate alone.
  /// - Throws: `BandwidthError` for a timetable that cannot be kept.
  package init(serviceMbps: Double?, profiles: [String: BandwidthProfile] = [:], clock: any SyncClock) throws(BandwidthError) {
    self.clock = clock
    let moment = BandwidthLedger.Moment(monotonic: clock.monotonicNanoseconds, wall: clock.wallSeconds)
    ledger = BandwidthLedger(
      service: UploadRate(megabits: serviceMbps), schedules: try Self.schedules(profiles), at: moment)
  }

  private static func schedules(_ profiles: [String: BandwidthProfile]) throws(BandwidthError) -> [String: BandwidthSchedule] {
    var schedules: [String: BandwidthSchedule] = [:]
    for (name, profile) in profiles { schedules[name] = try BandwidthSchedule(profile) }
    return schedules
  }

  private var moment: BandwidthLedger.Moment {
    BandwidthLedger.Moment(monotonic: clock.monotonicNanoseconds, wall: clock.wallSeconds)
  }

  /// Takes new limits, for those who wait now too. On an error the old ones stay.
  /// - Throws: `BandwidthError` for a timetable that cannot be kept.
  package func update(serviceMbps: Double?, profiles: [String: BandwidthProfile]) throws(BandwidthError) {
    let schedules = try Self.schedules(profiles)
    ledger.replace(service: UploadRate(megabits: serviceMbps), schedules: schedules, at: moment)
    serve()
  }

  /// Returns once so many bytes may be sent. The bytes count as sent then, whatever becomes of them.
  ///
  /// Ask in pieces of `preferredPiece(for:)`; a request of any size passes in the end, unless a pause has no end.
  /// - Parameters:
  ///   - bytes: What is about to be sent; 0 passes at once.
  ///   - equipment: The instrument's id.
  /// - Throws: `CancellationError` at once when the task is cancelled; nothing is counted then.
  package func acquire(bytes: Int, equipment: String) async throws(CancellationError) {
    if Task.isCancelled { throw CancellationError() }
    if bytes <= 0 || ledger.passesFreely(equipment) { return }
    lastNumber += 1
    let number = lastNumber
    let granted = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        waiters[number] = Waiter(equipment: equipment, continuation: continuation)
        ledger.add(BandwidthLedger.Request(number: number, bytes: bytes), of: equipment, at: moment)
        serve()
      }
    } onCancel: {
      // The request is in line by the time this reaches the actor: it was put there before the actor was first left.
      Task { await self.cancel(number) }
    }
    if !granted { throw CancellationError() }
  }

  /// The bytes that the data path best asks for at once, now.
  package func preferredPiece(for equipment: String) -> Int { ledger.rate(of: equipment, at: moment).preferredPiece }

  /// The rate that holds for an instrument now: the slower of its own and the service's.
  package func rate(for equipment: String) -> UploadRate { ledger.rate(of: equipment, at: moment) }

  /// How many requests wait.
  package var waiting: Int { ledger.waiting }

  private func cancel(_ number: UInt64) {
    guard let waiter = waiters.removeValue(forKey: number) else { return }
    ledger.remove(number, of: waiter.equipment)
    waiter.continuation.resume(returning: false)
    serve()
  }

  /// Lets pass what may pass, and sets the timer for the rest.
  private func serve() {
    let now = moment
    for number in ledger.grant(at: now) { waiters.removeValue(forKey: number)?.continuation.resume(returning: true) }
    guard ledger.waiting > 0 else {
      timer?.task.cancel()
      timer = nil
      return
    }
    let delay = min(max(ledger.delay(at: now) ?? Self.longestSleep, Self.shortestSleep), Self.longestSleep)
    let deadline = now.monotonic + delay
    // An earlier timer looks again in time.
    if let timer, timer.deadline <= deadline { return }
    timer?.task.cancel()
    lastNumber += 1
    let number = lastNumber
    timer = Timer(
      number: number, deadline: deadline,
      task: Task {
        do { try await clock.sleep(untilMonotonic: deadline) } catch { return }
        ring(number)
      })
  }

  private func ring(_ number: UInt64) {
    guard timer?.number == number else { return }
    timer = nil
    serve()
  }
}
