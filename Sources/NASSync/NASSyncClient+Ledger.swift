import Foundation
import Gate
import Glibc
import Intake
import JobQueue
import SyncModel

extension HistoryEntry {
  /// Event of the line that says that the ledger of overrides is as it was written.
  public static let ledgerWhole = "override_ledger_whole"
  /// Event of a line that names a fault of the ledger.
  public static let ledgerBroken = "override_ledger_broken"
}

extension NASSyncClient {
  static let overrideNote = "override_noted"

  /// Writes into the history of the run's job, where there is one, that an entry was added: its removal from the record is noticed then.
  func noteOverride(_ id: String, of location: RunLocation) async {
    do throws(SyncFailure) {
      guard let queue = try await queueIfPresent(), let job = try await queue.latestJob(ofRun: location.root) else { return }
      try await queue.note(job, event: Self.overrideNote, detail: id)
    } catch {
      // The record has the entry, which is what counts.
      warn("the queue could not note the override \(id): \(error.message)", run: location.root)
    }
  }

  /// What there is to say of a run's ledger of overrides today: its chain, and whether the entries that the queue and the receipt know are
  /// still there. Nothing for a run that never had one.
  /// - Parameters:
  ///   - noted: Ids that the queue's history holds.
  ///   - wasCleaned: The local copy was removed by this program.
  func ledgerVerdict(of location: RunLocation, noted: [String], wasCleaned: Bool) async -> [HistoryEntry] {
    let folder = configuration.metadataFolder
    let found: (ledger: OverrideLedger?, ids: [String], named: [String], problem: String?)
    found = await readers.next().run {
      let named = Self.overridesInReceipt(of: location.root, metadataFolder: folder)
      do throws(RecordError) {
        let record = try RecordStore(runRoot: location.root, metadataFolder: folder).read()
        let ids = record?.overrides.map { entry in
          switch entry {
          case .override(let added): added.id
          case .revocation(let revoked): revoked.id
          }
        }
        return (record?.ledger, ids ?? [], named, record?.overrideProblems.first)
      } catch { return (nil, [], named, "\(error)") }
    }
    // A run that is gone from the workstation has no ledger to look at: its receipt on the NAS names what counted.
    guard FileManager.default.fileExists(atPath: location.root) else { return [] }
    // Nor has one whose record the clean-up took along, where files that are never removed kept the folder.
    if wasCleaned, !FileManager.default.fileExists(atPath: "\(location.root)/\(folder)") { return [] }
    var faults = (found.ledger?.faults ?? []).map { fault in
      "ledger: broken at entry \(fault.entry)\(fault.id.map { " (\(displayText($0)))" } ?? ""): \(fault.reason)"
    }
    if let problem = found.problem, !(noted.isEmpty && found.named.isEmpty && (found.ledger?.entries ?? 0) == 0) {
      faults.append("ledger: cannot be read in full: \(problem)")
    } else if found.problem == nil {
      for id in found.named where !found.ids.contains(id) {
        faults.append("ledger: the receipt names override \(displayText(id)), which the record has no more")
      }
      for id in noted where !found.ids.contains(id) && !found.named.contains(id) {
        faults.append("ledger: entry \(displayText(id)) was written to the record, which has it no more")
      }
    }
    let now = Date(timeIntervalSince1970: clock.wallSeconds)
    func line(_ event: String, _ detail: String) -> HistoryEntry {
      HistoryEntry(at: now, jobID: nil, generation: nil, event: event, fromState: nil, toState: nil, detail: detail)
    }
    guard faults.isEmpty else { return faults.map { line(HistoryEntry.ledgerBroken, $0) } }
    guard let ledger = found.ledger, ledger.entries > 0 else { return [] }
    let others = ledger.entries - ledger.chained
    let foreign = others == 0 ? "" : ", \(others) of them by other programs and not chained"
    return [line(HistoryEntry.ledgerWhole, "ledger: whole, \(ledger.entries) \(ledger.entries == 1 ? "entry" : "entries")\(foreign)")]
  }

  /// Ids of the overrides that the receipt on this workstation names. Blocking.
  private static func overridesInReceipt(of runPath: String, metadataFolder: String) -> [String] {
    let bytes: [UInt8]
    do throws(SyncFailure) {
      let path: RelativePath
      do throws(RelativePath.Invalid) { path = try RelativePath("\(metadataFolder)/receipt.json") } catch { return [] }
      let reader = try LocalFileReader(in: try RunFolder(root: runPath), path: path)
      bytes = try reader.read(at: 0, upTo: 16 << 20)
    } catch { return [] }
    return Receipt.decode(bytes)?.gate.overrides.map(\.id) ?? []
  }
}
