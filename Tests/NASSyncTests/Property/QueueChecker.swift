import SQLite
import TestSupport

/// Reads the queue file by its own statements and holds it against the contract's table of transitions.
struct QueueChecker {
  /// Every change of state that SPEC 3 has; what is not here must not be in any history.
  static let allowed: Set<[String?]> = [
    [nil, "queued"], ["queued", "running"], ["running", "awaiting_verify"], ["running", "queued"], ["running", "failed"],
    ["awaiting_verify", "verified"], ["awaiting_verify", "queued"], ["awaiting_verify", "failed"], ["verified", "cleanup_eligible"],
    ["verified", "failed"], ["cleanup_eligible", "cleaned"], ["cleanup_eligible", "failed"], ["failed", "queued"],
  ]

  let path: String

  private func open() throws -> Connection { try Connection(path: path, readOnly: true) }

  /// What is wrong with the whole history; empty where nothing is.
  func faults() throws -> [String] {
    let connection = try open()
    var state: [Int64: String] = [:]
    var faults: [String] = []
    let rows = try connection.query("SELECT sequence, job, event, from_state, to_state FROM history ORDER BY sequence") {
      (sequence: $0.integer(0), job: $0.integer(1), event: $0.text(2), from: $0.optionalText(3), to: $0.optionalText(4))
    }
    for row in rows {
      if row.from == nil, row.to == nil { continue }
      if row.from != row.to, !Self.allowed.contains([row.from, row.to]) {
        faults.append("history \(row.sequence): \(row.event) moved job \(row.job) from \(row.from ?? "nothing") to \(row.to ?? "nothing")")
      }
      if row.from != state[row.job] {
        faults.append(
          "history \(row.sequence): \(row.event) starts from \(row.from ?? "nothing"), job \(row.job) was \(state[row.job] ?? "nothing")")
      }
      state[row.job] = row.to
    }
    for job in try connection.query("SELECT number, state FROM job", [], { (number: $0.integer(0), state: $0.text(1)) })
    where state[job.number] != job.state {
      faults.append("job \(job.number) is \(job.state), its history says \(state[job.number] ?? "nothing")")
    }
    return faults
  }

  /// The newest job of a run: its state, its passes and what was proven of each file.
  func newest(_ run: String) throws -> (state: String, passes: Int, proven: [String: [UInt8]])? {
    let connection = try open()
    guard
      let job = try connection.first(
        "SELECT number, state, verify_passes FROM job WHERE run_path = ?1 ORDER BY generation DESC LIMIT 1", [.text(run)],
        { (number: $0.integer(0), state: $0.text(1), passes: Int($0.integer(2))) })
    else { return nil }
    let rows = try connection.query(
      "SELECT path, remote_digest FROM component WHERE job = ?1 AND state = 'verified' AND remote_digest IS local_digest",
      [.integer(job.number)]
    ) { (path: String(decoding: $0.blob(0), as: UTF8.self), digest: $0.blob(1)) }
    return (job.state, job.passes, Dictionary(rows.map { ($0.path, $0.digest) }) { $1 })
  }

  /// Jobs that somebody still has to work on.
  func active() throws -> [String] {
    try open().query("SELECT id || ' ' || state FROM job WHERE state IN ('queued', 'running', 'awaiting_verify')", []) { $0.text(0) }
  }
}
