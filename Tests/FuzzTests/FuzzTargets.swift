import Cleanup
import Digests
import Foundation
import Intake
import SyncModel

@testable import Configuration
@testable import Gate
@testable import NASSync
@testable import TransportHTTP
@testable import TransportSFTP

/// What reads bytes that a server, a file or another program wrote. The fuzzer gives each one bytes without end, and the tests give each one the
/// bytes that taught it something. A target must return, whatever it gets; where it can say more than "no crash", it ends the process.
enum FuzzTarget: String, CaseIterable {
  case manifest, runList = "run_list", record, receipt, configuration, equipment, hashAnswer = "hash_answer", knownHosts = "known_hosts"
  case sftp, multistatus, s3, http

  /// One input.
  func run(_ bytes: [UInt8]) {
    switch self {
    case .manifest: Self.manifest(bytes)
    case .runList: Self.runList(bytes)
    case .record: Self.record(bytes)
    case .receipt: Self.receipt(bytes)
    case .configuration: Self.configuration(bytes, equipment: false)
    case .equipment: Self.configuration(bytes, equipment: true)
    case .hashAnswer: Self.hashAnswer(bytes)
    case .knownHosts: Self.knownHosts(bytes)
    case .sftp: Self.sftp(bytes)
    case .multistatus: Self.multistatus(bytes)
    case .s3: Self.s3(bytes)
    case .http: Self.http(bytes)
    }
  }

  /// A property of the parser does not hold. Not `#expect`: the fuzzer's process has no tests.
  private static func require(_ holds: Bool, _ what: String) {
    if !holds { preconditionFailure(what) }
  }

  /// What was read and is written again reads as the same.
  private static func manifest(_ bytes: [UInt8]) {
    guard let manifest = try? RunManifest(parsing: bytes) else { return }  // refused is fine
    for entry in manifest.entries { require(!entry.path.segments.contains { $0.elementsEqual([0x2e, 0x2e]) }, "a path that climbs") }
    let again = try? RunManifest(parsing: manifest.encoded)  // nil is what the next line finds
    require(again == manifest, "a manifest that does not read as it was written")
  }

  private static func runList(_ bytes: [UInt8]) {
    let entries = ["a", "b/c"].compactMap { name in
      (try? RelativePath(name)).map {  // both are paths
        RunEntry(path: $0, kind: .file, fingerprint: FileFingerprint(device: 1, inode: 2, size: 3, modified: 4, changed: 5, mode: 6))
      }
    }
    let snapshot = RunSnapshot(root: "/r", metadataFolder: ".m", entries: entries, excluded: [], record: nil, recordUnreadable: nil)
    _ = try? RunList(parsing: bytes, in: snapshot)  // refused is fine
  }

  /// Setting a status leaves every other byte of meaning as it was, so that setting it back gives the record again.
  private static func record(_ bytes: [UInt8]) {
    guard let record = try? RunRecord(parsing: bytes) else { return }  // refused is fine
    _ = record.overrides
    guard let synced = try? record.setting(.synced) else { return }  // a record whose status is no text
    require(synced.syncStatus == "synced", "a status that was not set")
    let again = try? RunRecord(parsing: synced.document.bytes)  // nil is what the next line finds
    require(
      again?.syncStatus == "synced" && again?.overrides.count == record.overrides.count, "a record that changed when its status was set")
  }

  private static func receipt(_ bytes: [UInt8]) {
    if let receipt = Receipt.decode(bytes), let written = try? receipt.encoded() {  // a value that JSON cannot hold
      require(Receipt.decode(written)?.manifestSHA256 == receipt.manifestSHA256, "a receipt that does not read as it was written")
    }
    _ = RunClaim.decode(bytes)
    _ = try? JSONDecoder().decode(DeletionCertificate.self, from: Data(bytes))  // refused is fine
  }

  private static func configuration(_ bytes: [UInt8], equipment: Bool) {
    guard bytes.count <= 1 << 16, String(validating: bytes, as: UTF8.self) != nil,
      !bytes.contains(where: { $0 < 0x20 && $0 != 0x09 && $0 != 0x0a && $0 != 0x0d })
    else { return }
    let report = ConfigurationReport(file: "/f.yaml")
    guard let root = YAMLParser.parse(bytes, report: report) else { return }
    let paths = ConfigurationPaths(file: "/f.yaml", environment: ["HOME": "/home/u"])
    if equipment {
      _ = EquipmentDecoder(report: report, paths: paths, knownHosts: "/k").decode(root)
    } else {
      _ = ServiceDecoder(report: report, paths: paths).decode(root, file: "/f.yaml")
    }
    for problem in report.sorted { require(!problem.message.isEmpty && !problem.hint.isEmpty, "a problem without words") }
  }

  /// However the bytes are cut, the answer is the same.
  private static func hashAnswer(_ bytes: [UInt8]) {
    let names = [Array("/a".utf8), Array("/b\nc".utf8), Array("/ü".utf8)]
    for program in HashProgram.allCases {
      func read(_ step: Int) -> [ContentDigest?]? {
        var answer = HashAnswer(program: program, count: names.count) { names[$0] }
        var rest = bytes[...]
        do {
          while !rest.isEmpty {
            try answer.feed(rest.prefix(step))
            rest = rest.dropFirst(step)
          }
          try answer.finish()
          return answer.digests
        } catch { return nil }
      }
      require(read(max(1, bytes.count)) == read(7), "an answer that depends on how it is cut")
    }
  }

  private static func knownHosts(_ bytes: [UInt8]) {
    let hosts = KnownHosts(bytes)
    _ = hosts.keyTypes(host: "nas", port: 22)
    _ = hosts.hasCertificateAuthority(host: "nas", port: 2222)
    if let key = hosts.entries.first?.key {
      // Whatever stands there, a revoked key is not trusted.
      let verdict = hosts.verdict(on: key, host: "nas", port: 22)
      if case .trusted(let line) = verdict { require(hosts.entries.contains { $0.line == line }, "trusted by no line") }
    }
    _ = SSHKeyBlob(bytes)
  }

  private static func sftp(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { _ = try? SFTPReply.decode($0) }  // refused is fine
    var buffer = SFTPFrameBuffer()
    var rest = bytes[...]
    while !rest.isEmpty {
      buffer.receive { room in
        let piece = rest.prefix(min(room.count, 4096))
        room.copyBytes(from: piece)
        rest = rest.dropFirst(piece.count)
        return piece.count
      }
      do throws(SFTPMalformed) {
        while try buffer.next({ (packet) throws(SFTPMalformed) in try SFTPReply.decode(packet).id }) != nil {}
      } catch { return }
    }
  }

  /// However the bytes are cut, the entries are the same.
  private static func multistatus(_ bytes: [UInt8]) {
    func read(_ step: Int) -> [MultistatusEntry]? {
      let parser = MultistatusParser(entryLimit: 1_000, byteLimit: 1 << 16)
      do throws(MultistatusMalformed) {
        var rest = bytes[...]
        while !rest.isEmpty {
          try parser.feed(Array(rest.prefix(step)))
          rest = rest.dropFirst(step)
        }
        return try parser.finish()
      } catch { return nil }
    }
    require(read(max(1, bytes.count)) == read(11), "a listing that depends on how it is cut")
  }

  private static func s3(_ bytes: [UInt8]) {
    guard let root = try? S3Document.read(bytes) else { return }  // refused is fine
    for child in root.children { _ = (child.string, S3Session.decoded(child.bytes, isEncoded: true)) }
  }

  private static func http(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    _ = HTTPDate.seconds(of: text)
    if let plain = PercentEncoding.decode(bytes) {
      require(PercentEncoding.decode(PercentEncoding.path(plain).utf8) == plain, "an address that does not read as it was written")
    }
    if let segments = WebDAVPaths.segments(of: bytes) {
      require(!segments.contains { $0 == [0x2e, 0x2e] || $0.contains(0x2f) || $0.contains(0) }, "an address that climbs")
    }
  }
}
