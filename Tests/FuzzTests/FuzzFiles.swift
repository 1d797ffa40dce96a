import Cleanup
import Digests
import Foundation
import Intake
import SyncModel

@testable import Configuration
@testable import Gate
@testable import NASSync

// What lies in a file: written by this program, by another one or by hand.
extension FuzzTarget {
  /// What was read and is written again reads as the same; a list that lost its end is refused.
  static func manifest(_ bytes: [UInt8]) {
    guard let manifest = try? RunManifest(parsing: bytes) else { return }  // refused is fine
    for entry in manifest.entries { requireInside(entry.path) }
    let paths = manifest.entries.map(\.path)
    for (left, right) in zip(paths, paths.dropFirst()) { require(left < right, "no order, or a path twice") }
    let again = try? RunManifest(parsing: manifest.encoded)  // nil is what the next line finds
    require(again == manifest, "a manifest that does not read as it was written")
    if !bytes.isEmpty { require((try? RunManifest(parsing: bytes.dropLast())) == nil, "a manifest without its end was taken") }
  }

  /// A path can lead nowhere but down.
  static func requireInside(_ path: RelativePath) {
    require(!path.bytes.contains(0) && !path.bytes.isEmpty, "a path that no file has")
    let segments = path.bytes.split(separator: 0x2f, omittingEmptySubsequences: false)
    require(!segments.contains { $0.isEmpty || $0 == [0x2e] || $0 == [0x2e, 0x2e] }, "a path that climbs")
  }

  private static let listed: RunSnapshot = {
    let entries = ["a", "b/c"].compactMap { name in
      (try? RelativePath(name)).map {  // both are paths
        RunEntry(path: $0, kind: .file, fingerprint: FileFingerprint(device: 1, inode: 2, size: 3, modified: 4, changed: 5, mode: 6))
      }
    }
    return RunSnapshot(root: "/r", metadataFolder: ".m", entries: entries, excluded: [], record: nil, recordUnreadable: nil)
  }()

  /// Everything listed is there or missing, and nothing else; line ends as Windows writes them change nothing.
  static func runList(_ bytes: [UInt8]) {
    guard let list = try? RunList(parsing: bytes, in: listed) else { return }  // refused is fine
    for item in list.items { require(listed.entries.contains(item.entry), "a file that is not there") }
    for path in list.missing {
      requireInside(path)
      require(!listed.entries.contains { $0.path == path }, "a file that is there is called missing")
    }
    guard !bytes.contains(0x0d) else { return }
    let manifest = try? RunManifest(parsing: bytes)  // nil is what the next line finds
    require(manifest.map { $0.entries.count >= list.items.count + list.missing.count } == true, "more than is listed")
    let windows = bytes.flatMap { $0 == 0x0a ? [0x0d, 0x0a] : [$0] }
    let again = try? RunList(parsing: windows, in: listed)  // nil is what the next line finds
    require(again?.items == list.items && again?.missing == list.missing, "another list where lines end in CR LF")
  }

  private static let override = OverrideEntry.override(
    Override(
      id: "3517d3cf-f82c-42e3-8d16-0ea0ec1dab09", problemClass: FindingClass(rawValue: "case_collision"), operatorName: "o",
      recordedAt: 1_700_000_000, reason: "\u{2028}\"\\\u{1}", path: nil))

  /// A record that can be read can be written, always; whatever is set, the rest stays as it was.
  static func record(_ bytes: [UInt8]) {
    guard let record = try? RunRecord(parsing: bytes) else { return }  // refused is fine
    require(record.document.bytes == bytes, "a record that changed when it was read")
    guard let synced = try? record.setting(.synced), let failed = try? synced.setting(.failed), let again = try? failed.setting(.synced)
    else { return require(false, "a record that can be read and whose status cannot be set") }
    require(synced.syncStatus == "synced" && failed.syncStatus == "failed", "a status that was not set")
    require(again.document.bytes == synced.document.bytes, "a status that leaves its traces")
    let read = try? RunRecord(parsing: synced.document.bytes)  // nil is what the next line finds
    require(read?.syncStatus == "synced", "a record that cannot be read once its status is set")
    require(
      synced.overrides == record.overrides && synced.overrideProblems == record.overrideProblems && synced.runKind == record.runKind
        && synced.schemaVersion == record.schemaVersion && synced.ledger == record.ledger, "a record that changed when its status was set")
    guard let more = try? record.appending(override) else { return require(false, "a record that takes no override") }
    require(
      more.overrides == record.overrides + [override] && more.overrideProblems == record.overrideProblems
        && more.syncStatus == record.syncStatus, "an override that is not the one that was added")
    require(more.ledger.faults == record.ledger.faults && more.ledger.chained == record.ledger.chained + 1, "a chain that broke by itself")
  }

  private static let decoder: JSONDecoder = {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    return decoder
  }()

  /// Foundation reads fractions of a second and writes none, so what was written once is compared, not what was read.
  static func receipt(_ bytes: [UInt8]) {
    if let receipt = Receipt.decode(bytes), let written = try? receipt.encoded() {  // a value that JSON cannot hold
      let again = try? Receipt.decode(written)?.encoded()  // nil is what the next line finds
      require(again == written, "a receipt that does not read as it was written")
    }
    if let claim = RunClaim.decode(bytes), let written = try? claim.encoded() {  // likewise
      let again = try? RunClaim.decode(written)?.encoded()  // nil is what the next line finds
      require(again == written, "a claim that does not read as it was written")
    }
    if let certificate = try? decoder.decode(DeletionCertificate.self, from: Data(bytes)) {  // refused is fine
      for file in certificate.files { requireInside(file.path) }
      guard let written = try? certificate.encoded() else { return }  // likewise
      let again = try? decoder.decode(DeletionCertificate.self, from: Data(written)).encoded()  // nil is what the next line finds
      require(again == written, "a certificate that does not read as it was written")
    }
  }

  private static let paths = ConfigurationPaths(file: "/f.yaml", environment: ["HOME": "/home/u"])

  /// The document, as the loader hands it on; nil where it is refused.
  private static func document(_ bytes: [UInt8], _ report: ConfigurationReport) -> YAMLNode? {
    guard String(validating: bytes, as: UTF8.self) != nil, !bytes.contains(where: { $0 < 0x20 && $0 != 0x09 && $0 != 0x0a && $0 != 0x0d })
    else { return nil }
    let root = YAMLParser.parse(bytes, report: report)
    if root == nil { requireWords(report) }
    return root
  }

  /// Every problem says what is wrong and what to do.
  private static func requireWords(_ report: ConfigurationReport) {
    for problem in report.sorted { require(!problem.message.isEmpty && !problem.hint.isEmpty, "a problem without words") }
  }

  /// What a file may say, code may say.
  private static func requireValid(_ configuration: ServiceConfiguration) {
    do throws(ConfigurationError) { try configuration.validate() } catch { require(false, "a file with values that are refused: \(error)") }
  }

  static func configuration(_ bytes: [UInt8]) {
    let report = ConfigurationReport(file: "/f.yaml")
    guard let root = document(bytes, report) else { return }
    let configuration = ServiceDecoder(report: report, paths: paths).decode(root, file: "/f.yaml")
    requireWords(report)
    if report.problems.isEmpty { requireValid(configuration) }
  }

  static func equipment(_ bytes: [UInt8]) {
    let report = ConfigurationReport(file: "/f.yaml")
    guard let root = document(bytes, report) else { return }
    let profile = EquipmentDecoder(report: report, paths: paths, knownHosts: "/k").decode(root).profile
    requireWords(report)
    guard report.problems.isEmpty else { return }
    guard let profile else { return require(false, "no instrument, and no problem either") }
    requireValid(ServiceConfiguration(stateDirectory: "/s", equipment: [profile]))
  }
}
