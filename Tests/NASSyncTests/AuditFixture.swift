import Foundation
import JobQueue
import SyncModel
import Synchronization
import TestSupport
import Transport

@testable import NASSync

/// A driver that calls itself something else.
struct RenamedDriver: TransportDriver {
  let base: any TransportDriver
  let address: String
  func connect() async throws(TransportError) -> any TransportSession { try await base.connect() }
  func makeHasher() async throws(TransportError) -> (any RemoteHasher)? { try await base.makeHasher() }
  func probe() async throws(TransportError) -> DestinationProbe { try await base.probe() }
}

extension NASSyncClient {
  /// Audits what is due now, as the rounds of a service do.
  func audit() async throws { await auditDueRuns(try await environment()) }

  /// The queue's own row of a run.
  func row(_ run: String) async throws -> JobRow {
    guard let job = try await queue().latestJob(ofRun: run) else { throw TemporaryFolder.Failure("no job of \(run)") }
    return job
  }

  /// As a clean-up does when the local copy is gone.
  func markCleaned(_ run: String) async throws {
    let eligible = try await queue().transition(try await row(run), on: .becameEligible, worker: nil, detail: "the test says so")
    try await queue().transition(eligible, on: .removedLocally, worker: nil, detail: "the test says so")
  }

  /// As an audit does that found the copy wrong.
  func fail(_ run: String) async throws {
    var change = JobChange()
    change.repairs = true
    change.fault = "the test says so"
    change.lastError = .some(SyncFailure(.remoteCorrupted, "the test says so", hint: "None."))
    try await queue().transition(try await row(run), on: .remoteCorrupted, worker: nil, change: change, detail: "the test says so")
  }

  func events(of run: String) async throws -> [String] { try await history(of: run).map(\.event) }

  func problem(_ name: String) async throws -> Problem? { try await problems().first { $0.problemClass == name } }
}

extension LabFixture {
  static let day: Double = 86_400

  /// A client on a clock that a test moves.
  func client(_ clock: ShiftedClock, _ plan: FaultPlan? = nil) -> NASSyncClient {
    guard let plan else { return NASSyncClient(configuration: configuration, clock: clock) }
    let real = realDriver
    return NASSyncClient(configuration: configuration, clock: clock, driver: { _ in FaultingDriver(base: real, plan: plan) })
  }

  /// What a repair of a run moved aside, by its path in the run, and the bytes of each file.
  ///
  /// - Parameter ignored: Files that do not count.
  func movedAside(
    _ run: String, ignoring ignored: (_ path: String, _ content: [UInt8]) -> Bool = { _, _ in false }
  ) throws -> [String: [UInt8]] {
    let parent = (remote(run) as NSString).deletingLastPathComponent
    var found: [String: [UInt8]] = [:]
    for folder in try siblings(of: run) where folder.hasPrefix(".nassync-replaced-") {
      for case let path as String in FileManager.default.enumerator(atPath: "\(parent)/\(folder)") ?? .init() {
        let whole = "\(parent)/\(folder)/\(path)"
        let kind = try FileManager.default.attributesOfItem(atPath: whole)[.type] as? FileAttributeType
        if kind == .typeRegular {
          let content = try bytes(whole)
          if !ignored(path, content) { found[path] = content }
        }
        if kind == .typeSymbolicLink { found[path] = [] }
      }
    }
    return found
  }

  /// Replaces a file on the NAS by other bytes.
  func overwrite(_ path: String, _ content: [UInt8]) throws {
    try FileManager.default.removeItem(atPath: path)
    try write(content, to: path)
  }
}
