import Bandwidth
import Synchronization
import SyncModel

/// Which destinations are audited just now, over which sessions, and when one that could not be audited is asked again.
///
/// Audits have sessions of their own, one to a destination, so that a large run that the NAS hashes for an hour holds up no transfer's proof.
actor AuditDesk {
  private struct Pause {
    let until: UInt64
    let count: Int
  }

  /// Reads local files, which the transfers' threads must not be kept from.
  nonisolated let readers = ReaderThreads(count: 1)
  private nonisolated let pools = Mutex<[String: SessionPool]>([:])
  /// When the audit of a destination began, monotonic nanoseconds.
  private var began: [String: UInt64] = [:]
  private var taken: Set<String> = []
  private var pauses: [String: Pause] = [:]
  private var told: [String: SyncFailure] = [:]
  private var limiter: (rate: Double, scheduler: BandwidthScheduler)?

  /// Takes a destination, which is audited once at a time; false where it is taken.
  func take(_ address: String) -> Bool { taken.insert(address).inserted }

  func release(_ address: String) { taken.remove(address) }

  func audits(_ address: String, since now: UInt64) { began[address] = now }

  func audited(_ address: String) { began[address] = nil }

  /// Seconds for which audits have been under way that have not ended yet.
  func secondsUnderWay(at now: UInt64) -> Double {
    began.values.reduce(0) { $0 + Double(now - min($1, now)) / 1e9 }
  }

  // MARK: - Pauses

  func isPaused(_ address: String, at now: UInt64) -> Bool { pauses[address].map { now < $0.until } ?? false }

  /// The destination is left alone for a while, longer each time.
  func pause(_ address: String, backoff: [Double], at now: UInt64) {
    let count = pauses[address]?.count ?? 0
    let seconds = backoff.isEmpty ? 30 : backoff[min(count, backoff.count - 1)]
    pauses[address] = Pause(until: now + UInt64(seconds * 1e9), count: count + 1)
  }

  func resume(_ address: String) { pauses[address] = nil }

  /// Whether this failure of the workstation itself has not been told just now.
  func isFirstToTell(_ failure: SyncFailure, of address: String) -> Bool {
    defer { told[address] = failure }
    return told[address] != failure
  }

  func worked(_ address: String) { told[address] = nil }

  // MARK: - Sessions and bandwidth

  /// The audits' own session to a destination.
  nonisolated func pool(like other: SessionPool, clock: any SyncClock) -> SessionPool {
    pools.withLock { pools in
      if let pool = pools[other.driver.address] { return pool }
      let pool = SessionPool(driver: other.driver, limit: 1, clock: clock)
      pools[other.driver.address] = pool
      return pool
    }
  }

  /// Ends the session of a destination until it is wanted again: a NAS admits only so many.
  func closePool(_ address: String) async {
    let pool = pools.withLock { $0.removeValue(forKey: address) }
    await pool?.close()
  }

  /// Makes every audit throw at once.
  nonisolated func interrupt() {
    for pool in pools.withLock({ Array($0.values) }) { pool.interrupt() }
  }

  /// What holds audits back where `verify.audit_download_mbps` is set.
  func bandwidth(_ mbps: Double?, clock: any SyncClock) throws(SyncFailure) -> BandwidthScheduler? {
    guard let mbps else { return nil }
    if let limiter, limiter.rate == mbps { return limiter.scheduler }
    do throws(BandwidthError) {
      let made = try BandwidthScheduler(serviceMbps: mbps, clock: clock)
      limiter = (mbps, made)
      return made
    } catch {
      throw SyncFailure(.misconfigured, "verify.audit_download_mbps cannot be used: \(error)", hint: "Correct it in the configuration.")
    }
  }
}
