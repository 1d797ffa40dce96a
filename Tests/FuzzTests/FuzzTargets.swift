import Foundation

/// What reads bytes that a server, a file or another program wrote. The fuzzer gives each one bytes without end, and the tests give each one the
/// bytes that taught it something. A target must return, whatever it gets; where it can say more than "no crash", it ends the process.
enum FuzzTarget: String, CaseIterable {
  case manifest, runList = "run_list", record, receipt, configuration, equipment, hashAnswer = "hash_answer", knownHosts = "known_hosts"
  case sftp, multistatus, s3, http, httpHead = "http_head"

  /// One input.
  func run(_ bytes: [UInt8]) {
    switch self {
    case .manifest: Self.manifest(bytes)
    case .runList: Self.runList(bytes)
    case .record: Self.record(bytes)
    case .receipt: Self.receipt(bytes)
    case .configuration: Self.configuration(bytes)
    case .equipment: Self.equipment(bytes)
    case .hashAnswer: Self.hashAnswer(bytes)
    case .knownHosts: Self.knownHosts(bytes)
    case .sftp: Self.sftp(bytes)
    case .multistatus: Self.multistatus(bytes)
    case .s3: Self.s3(bytes)
    case .http: Self.http(bytes)
    case .httpHead: Self.httpHead(bytes)
    }
  }

  /// A property of the parser does not hold. Not `#expect`: the fuzzer's process has no tests.
  static func require(_ holds: Bool, _ what: @autoclosure () -> String) {
    if holds { return }
    // An optimised program would end without its words.
    FileHandle.standardError.write(Data("fuzz: \(what())\n".utf8))
    preconditionFailure(what())
  }
}
