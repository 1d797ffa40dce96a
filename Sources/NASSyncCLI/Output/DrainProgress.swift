import NASSync

/// How far all the jobs of a drain are together. Pure: it is told what happened.
struct DrainProgress: Sendable {
  private struct Share: Sendable {
    var bytesDone: UInt64
    var bytesTotal: UInt64
    var filesDone: Int
    var filesTotal: Int
  }
  private var shares: [String: Share] = [:]
  private var current = ""

  /// - Parameter runs: Where the runs stood at the beginning; those with something left to do count.
  init(_ runs: [RunStatus]) {
    for run in runs {
      guard case .job(let state) = run.state, state.isActive, let job = run.jobID else { continue }
      shares[job] = Share(
        bytesDone: run.bytesSent, bytesTotal: run.bytesTotal, filesDone: run.filesDone, filesTotal: run.filesTotal)
    }
  }

  /// Whether there is anything to show.
  var isEmpty: Bool { shares.isEmpty }

  mutating func apply(_ event: SyncEvent) {
    switch event {
    case .progress(let progress):
      shares[progress.jobID] = Share(
        bytesDone: progress.bytesSent, bytesTotal: progress.bytesTotal, filesDone: progress.filesDone, filesTotal: progress.filesTotal)
      current = progress.currentFile ?? Self.leaf(progress.runPath)
    case .verifying(_, let run, let proven, let total):
      current = "proving \(Self.leaf(run)): \(Quantities.grouped(proven)) of \(Quantities.count(total, "file"))"
    case .stateChanged(let job, _, _, .verified):
      guard let share = shares[job] else { return }
      shares[job] = Share(
        bytesDone: share.bytesTotal, bytesTotal: share.bytesTotal, filesDone: share.filesTotal, filesTotal: share.filesTotal)
    case .stateChanged(let job, _, _, .failed):
      // What failed is not waited for.
      shares[job] = nil
    case .enqueued, .blocked, .stateChanged, .failed, .outage, .recovered, .audited, .warning: break
    }
  }

  /// Bytes that the NAS has.
  var bytesDone: UInt64 { Self.sum(shares.values.map(\.bytesDone)) }

  /// - Parameter rate: Bytes a second, nil before it is known.
  func reading(rate: Double?) -> ProgressBar.Reading {
    ProgressBar.Reading(
      bytesDone: bytesDone, bytesTotal: Self.sum(shares.values.map(\.bytesTotal)),
      filesDone: shares.values.reduce(0) { $0 &+ $1.filesDone },
      filesTotal: shares.values.reduce(0) { $0 &+ $1.filesTotal }, rate: rate, current: current)
  }

  private static func sum(_ counts: [UInt64]) -> UInt64 {
    counts.reduce(0) { sum, count in
      let (value, overflow) = sum.addingReportingOverflow(count)
      return overflow ? .max : value
    }
  }

  private static func leaf(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
}
