import SyncModel

/// Who waits for bandwidth, and who is next: pure, given the time with every call.
///
/// The service's bucket and the instrument's must both allow a request. Requests of one instrument are served in their order, the
/// instruments in turn. An instrument that its own bucket holds back is passed over; one that only the service's bucket holds back is
/// waited for, so that small requests of others cannot starve a large one.
package struct BandwidthLedger {
  /// A moment on both clocks.
  package struct Moment {
    /// Monotonic nanoseconds.
    package let monotonic: UInt64
    /// Seconds since 1970.
    package let wall: Double

    /// A moment on both clocks.
    package init(monotonic: UInt64, wall: Double) {
      self.monotonic = monotonic
      self.wall = wall
    }
  }

  /// Bytes that wait to be sent.
  package struct Request {
    /// Its own among all requests.
    package let number: UInt64
    /// More than 0.
    package let bytes: Int

    /// A request of so many bytes, more than 0.
    package init(number: UInt64, bytes: Int) {
      self.number = number
      self.bytes = bytes
    }
  }

  private struct Instrument {
    var schedule: BandwidthSchedule?
    var bucket: TokenBucket
    /// The rate is that of the timetable from this moment…
    var evaluated: Double
    /// …until this one; nil for ever.
    var nextChange: Double?
    /// Served from `first` on: taking from the front costs nothing, however many wait.
    var requests: [Request] = []
    var first = 0

    var head: Request? { first < requests.count ? requests[first] : nil }

    mutating func removeHead() {
      first += 1
      if first * 2 > requests.count {
        requests.removeFirst(first)
        first = 0
      }
    }
  }

  private var service: TokenBucket
  private var instruments: [String: Instrument] = [:]
  /// The instruments in the order in which they take turns; the next turn is that of `turn`.
  private var ring: [String] = []
  private var turn = 0
  /// How many requests wait.
  package private(set) var waiting = 0

  /// - Parameter rate: That of all instruments together.
  package init(service rate: UploadRate, schedules: [String: BandwidthSchedule], at moment: Moment) {
    service = TokenBucket(rate: rate, now: moment.monotonic)
    replace(service: rate, schedules: schedules, at: moment)
  }

  /// New rates and timetables; those who wait stay in their places.
  package mutating func replace(service rate: UploadRate, schedules: [String: BandwidthSchedule], at moment: Moment) {
    settle(at: moment)
    service.change(to: rate, at: moment.monotonic)
    for name in Set(schedules.keys).union(instruments.keys) {
      add(name, at: moment)
      instruments[name]?.schedule = schedules[name]
      evaluate(name, at: moment)
    }
  }

  private mutating func add(_ name: String, at moment: Moment) {
    guard instruments[name] == nil else { return }
    let bucket = TokenBucket(rate: .unlimited, now: moment.monotonic)
    instruments[name] = Instrument(schedule: nil, bucket: bucket, evaluated: moment.wall, nextChange: nil)
    ring.append(name)
  }

  /// Sets an instrument's rate to that of its timetable.
  private mutating func evaluate(_ name: String, at moment: Moment) {
    guard var instrument = instruments[name] else { return }
    instrument.bucket.change(to: instrument.schedule?.rate(at: moment.wall) ?? .unlimited, at: moment.monotonic)
    instrument.evaluated = moment.wall
    instrument.nextChange = instrument.schedule?.nextChange(after: moment.wall)
    instruments[name] = instrument
  }

  /// Earns up to a moment, through every change of a timetable on the way. A clock on the wall that was set back is noticed here too.
  private mutating func settle(at moment: Moment) {
    service.earn(until: moment.monotonic)
    for name in ring {
      guard let instrument = instruments[name] else { continue }
      if let change = instrument.nextChange, moment.wall >= change {
        // The rate changed a little before now: each rate earns for its own share of the time. A clock on the wall that jumped
        // makes this wrong by no more than what the bucket holds.
        let late = UInt64(min(max((moment.wall - change) * 1e9, 0), 3.6e12))
        let then = Moment(monotonic: moment.monotonic > late ? moment.monotonic - late : 0, wall: change)
        evaluate(name, at: then)
        if let next = instruments[name]?.nextChange, moment.wall >= next { evaluate(name, at: moment) }
      } else if instrument.schedule?.isConstant == false, moment.wall < instrument.evaluated {
        evaluate(name, at: moment)
      }
      instruments[name]?.bucket.earn(until: moment.monotonic)
    }
  }

  /// Whether a request passes without waiting and without a look at the clocks: nobody waits and nothing limits it.
  package func passesFreely(_ name: String) -> Bool {
    guard waiting == 0, service.rate == .unlimited else { return false }
    guard let instrument = instruments[name] else { return true }
    return instrument.bucket.rate == .unlimited && instrument.schedule?.isConstant != false
  }

  /// Puts a request at the end of its instrument's line.
  package mutating func add(_ request: Request, of name: String, at moment: Moment) {
    add(name, at: moment)
    instruments[name]?.requests.append(request)
    waiting += 1
  }

  /// Removes a request that nobody waits for any more.
  package mutating func remove(_ number: UInt64, of name: String) {
    guard let place = instruments[name]?.requests.firstIndex(where: { $0.number == number }), let first = instruments[name]?.first,
      place >= first
    else { return }
    instruments[name]?.requests.remove(at: place)
    waiting -= 1
  }

  /// The requests that pass now, in their order.
  package mutating func grant(at moment: Moment) -> [UInt64] {
    settle(at: moment)
    var granted: [UInt64] = []
    while let (place, request) = candidate(), service.allows(request.bytes) {
      service.take(request.bytes)
      instruments[ring[place]]?.bucket.take(request.bytes)
      instruments[ring[place]]?.removeHead()
      turn = (place + 1) % ring.count
      waiting -= 1
      granted.append(request.number)
    }
    return granted
  }

  /// The first request, from the present turn on, that its own instrument's bucket allows.
  private func candidate() -> (place: Int, request: Request)? {
    guard waiting > 0 else { return nil }
    for step in 0..<ring.count {
      let place = (turn + step) % ring.count
      guard let instrument = instruments[ring[place]], let head = instrument.head, instrument.bucket.allows(head.bytes) else { continue }
      return (place, head)
    }
    return nil
  }

  /// Nanoseconds from the last grant until another request may pass or a rate changes, nil when nobody waits or nothing is known.
  package func delay(at moment: Moment) -> UInt64? {
    guard waiting > 0 else { return nil }
    var soonest: UInt64?
    func consider(_ delay: UInt64) { soonest = min(soonest ?? delay, delay) }
    if let (_, request) = candidate() {
      if let delay = service.delay(for: request.bytes) { consider(delay) }
    }
    for instrument in instruments.values {
      guard let head = instrument.head else { continue }
      if let delay = instrument.bucket.delay(for: head.bytes), delay > 0 { consider(delay) }
      if let change = instrument.nextChange { consider(UInt64(max((change - moment.wall) * 1e9, 0).rounded(.up))) }
    }
    return soonest
  }

  /// The slower of the service's and the instrument's rates.
  package mutating func rate(of name: String, at moment: Moment) -> UploadRate {
    settle(at: moment)
    return .slower(service.rate, instruments[name]?.bucket.rate ?? .unlimited)
  }
}
