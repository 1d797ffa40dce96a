import Gate
import Intake
import SyncModel
import TestSupport

/// A run on the disk, and the gate's opinion of it.
struct GateFixture {
  let tree: TemporaryTree
  let place: String
  var context = GateContext(now: 1_800_000_000)

  /// - Parameter place: The run below `local_root`.
  init(_ place: String = "CONFOCAL_01/P/Runs/Run_1", record: String? = Self.goodRecord) throws {
    tree = try TemporaryTree()
    self.place = place
    try tree.makeFolder(place)
    if let record { try write(".exlab-wizard/creation.json", record) }
  }

  static let goodRecord = record()

  /// A complete record.
  static func record(kind: String = "experimental", overrides: String = "[]") -> String {
    """
    {
      "schema_version": "1.8",
      "created_at": "2026-04-17T14:32:00Z",
      "created_by": "asmith",
      "level": "run",
      "run_kind": "\(kind)",
      "lims_project": {"uid": "8c7e9d2f-1a4b-4e6c-9b3d-7f2a1e5d8c4b", "weight": 1.50e+2},
      "sync_status": "pending",
      "validation_overrides": \(overrides)
    }
    """
  }

  /// One override entry.
  static func entry(_ id: String, _ problemClass: FindingClass, more: String = "") -> String {
    """
    {"id": "\(id)", "problem_class": "\(problemClass)", "operator": "asmith", "recorded_at": "2026-04-18T09:14:22Z",
     "reason": "known", \(more)"revoked": false}
    """
  }

  /// One revocation.
  static func revocation(_ id: String, of revoked: String, at time: String = "2026-05-01T11:02:14Z") -> String {
    """
    {"id": "\(id)", "revokes": "\(revoked)", "operator": "asmith", "recorded_at": "\(time)", "reason": "over", "revoked": true}
    """
  }

  var root: String { "\(tree.path)/\(place)" }

  func write(_ name: String, _ text: String = "data") throws { try tree.write("\(place)/\(name)", text) }

  func write(bytes name: [UInt8]) throws { try tree.write(bytes: Array("\(place)/".utf8) + name) }

  func snapshot(excluding patterns: [String] = []) throws -> RunSnapshot {
    try RunScanner.snapshot(of: root, metadataFolder: ".exlab-wizard", excluding: patterns)
  }

  func location() throws -> RunLocation {
    RunLocation(root: root, equipment: "CONFOCAL_01", relative: try RelativePath(place))
  }

  func subject() throws -> GateSubject { GateSubject(snapshot: try snapshot(), location: try location(), context: context) }

  func findings() throws -> [Finding] { BuiltInValidator().findings(in: try subject()) }

  /// Findings of one class.
  func findings(_ problemClass: FindingClass) throws -> [Finding] { try findings().filter { $0.problemClass == problemClass } }

  func verdict(_ validator: any RunValidator = BuiltInValidator()) async throws -> GateVerdict {
    await PreSyncGate(validator: validator).evaluate(snapshot: try snapshot(), location: try location(), context: context)
  }
}
