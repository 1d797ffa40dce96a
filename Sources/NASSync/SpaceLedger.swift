import JobQueue
import Synchronization
import SyncModel
import Transport

/// What the runs on their way still want of each destination, so that several do not fill one disk together.
final class SpaceLedger: Sendable {
  private struct Wish {
    let destination: String
    var bytes: UInt64
  }
  private let wishes = Mutex<[String: Wish]>([:])

  /// Lets a job in where there is room for it beside those that are in already.
  /// - Returns: What the others still want, where the job has to wait; nil where it is in.
  func admit(_ job: String, wanting bytes: UInt64, of destination: String, free: UInt64) -> UInt64? {
    wishes.withLock { wishes in
      let others = wishes.reduce(UInt64(0)) { sum, wish in
        wish.key == job || wish.value.destination != destination ? sum : sum.addingReportingOverflow(wish.value.bytes).partialValue
      }
      let (sum, overflow) = others.addingReportingOverflow(bytes)
      guard !overflow, sum <= free else { return others }
      wishes[job] = Wish(destination: destination, bytes: bytes)
      return nil
    }
  }

  /// A job has less to send than it had.
  func lower(_ job: String, to bytes: UInt64) {
    wishes.withLock { if let wish = $0[job], bytes < wish.bytes { $0[job]?.bytes = bytes } }
  }

  /// The job sends no more.
  func remove(_ job: String) { wishes.withLock { $0[job] = nil } }

  /// Bytes of disk that components take, in blocks of 4 KiB, with something for the manifest, the receipt and the file system's own
  /// books: a twentieth, at most 64 MiB.
  /// - Parameter staged: Bytes of a component that are there already.
  static func need(_ rows: [ComponentRow], staged: (RelativePath) -> UInt64) -> UInt64 {
    var sum: UInt64 = 0
    for row in rows where row.state == .pending {
      let size = row.entry.kind == .file ? row.entry.fingerprint.size : 0
      let left = size - min(size, staged(row.entry.path))
      let blocks = left.addingReportingOverflow(4095)
      sum = sum.addingReportingOverflow(blocks.overflow ? left : blocks.partialValue & ~4095).partialValue
      // Its line in the manifest.
      if row.entry.kind == .file { sum &+= UInt64(row.entry.path.bytes.count) + 70 }
    }
    guard sum > 0 else { return 0 }
    return sum.addingReportingOverflow(min(sum / 20, 64 << 20)).partialValue
  }
}

extension JobRunner {
  /// Refuses to begin what cannot come to an end: a run for which the destination says that there is no room.
  /// - Parameter staged: What an earlier attempt left there.
  func requireSpace(
    _ job: JobRow, _ rows: [ComponentRow], staged: [RelativePath: RemoteEntry], layout: RemoteLayout
  ) async throws(StepFailure) {
    let need = SpaceLedger.need(rows) { staged[$0]?.size ?? 0 }
    guard need > 0 else { return }
    let free: UInt64?
    do throws(TransportError) {
      free = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await session.freeSpace(at: layout.staging)
      }
    } catch { throw StepFailure(error) }
    guard let free, let others = environment.space.admit(job.id, wanting: need, of: job.destination, free: free) else { return }
    let missing = "\(sizeText(need)) are needed for \(job.runPath) and \(sizeText(free)) are free on the NAS"
    guard need <= free else {
      throw StepFailure(
        SyncFailure(
          .remoteFull, "nothing was sent, because it would not fit: \(missing)",
          hint: "Free space there or raise the user's quota; it is tried again."))
    }
    var waits = StepFailure(
      SyncFailure(
        .remoteFull, "\(missing), of which other runs on their way there still want \(sizeText(others))",
        hint: "It waits for them. Free space there if it waits for long."))
    waits.waitsForOthers = true
    throw waits
  }
}

/// `12.3 GB`: three figures, powers of ten, as disks are sold.
func sizeText(_ bytes: UInt64) -> String {
  let units = ["kB", "MB", "GB", "TB", "PB"]
  var value = Double(bytes) / 1000
  var unit = 0
  if bytes < 1000 { return "\(bytes) B" }
  while value >= 999.5, unit + 1 < units.count {
    value /= 1000
    unit += 1
  }
  let tenths = Int((value * 10).rounded())
  return value < 99.95 ? "\(tenths / 10).\(tenths % 10) \(units[unit])" : "\(Int(value.rounded())) \(units[unit])"
}
