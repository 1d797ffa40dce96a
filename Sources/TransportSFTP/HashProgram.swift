import SyncModel

/// A program on the far side that prints SHA-256 digests, and how it writes them.
enum HashProgram: String, Hashable, Sendable, Codable, CaseIterable {
  // In order of preference: openssl uses the CPU's SHA instructions, coreutils' sha256sum mostly does not.
  case openssl = "openssl dgst"
  case sha256sumZero = "sha256sum -z"
  case sha256sum
  case shasum
  case sha256

  /// The program that must be there.
  var programName: String {
    switch self {
    case .openssl: "openssl"
    case .sha256sumZero, .sha256sum: "sha256sum"
    case .shasum: "shasum"
    case .sha256: "sha256"
    }
  }

  /// Hashes the files named on standard input, each name followed by NUL, all in one go.
  var command: RemoteCommand {
    switch self {
    case .openssl: RemoteCommand(script: "xargs -0 openssl dgst -sha256 -r")
    case .sha256sumZero: RemoteCommand(script: "xargs -0 sha256sum -z")
    case .sha256sum: RemoteCommand(script: "xargs -0 sha256sum")
    case .shasum: RemoteCommand(script: "xargs -0 shasum -a 256")
    case .sha256: RemoteCommand(script: "xargs -0 sha256 -r")
    }
  }

  /// Hashes one file while it is written: see `RemoteCommand.init(following:)`.
  var followingCommand: RemoteCommand {
    switch self {
    case .openssl: RemoteCommand(following: "openssl dgst -sha256 -r")
    case .sha256sumZero, .sha256sum: RemoteCommand(following: "sha256sum")
    case .shasum: RemoteCommand(following: "shasum -a 256")
    case .sha256: RemoteCommand(following: "sha256")
    }
  }

  /// Between digest and name.
  var separator: [UInt8] {
    switch self {
    case .openssl: Array(" *".utf8)
    case .sha256sumZero, .sha256sum, .shasum: Array("  ".utf8)
    case .sha256: Array(" ".utf8)
    }
  }

  /// After the name.
  var terminator: UInt8 { self == .sha256sumZero ? 0 : UInt8(ascii: "\n") }

  /// Whether the name is printed as it is and can be told from what follows. Programs that end a line with a line feed escape some
  /// names, each in its own way.
  func prints(_ name: some Sequence<UInt8>) -> Bool {
    self == .sha256sumZero || !name.contains { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\\") }
  }
}

/// Takes a hashing command's answer apart as it arrives, in order and strictly: what is not exactly as expected is an error, never skipped.
struct HashAnswer {
  /// What does not fit.
  struct Malformed: Error, CustomStringConvertible {
    let description: String
  }

  private enum Stage {
    /// What a login profile prints before the mark.
    case preamble
    case records
    /// The mark that ends the answer.
    case trailer
    case complete(status: Int)
  }

  private let program: HashProgram
  private let count: Int
  private let name: (Int) -> [UInt8]
  private var stage = Stage.preamble
  private var buffer: [UInt8] = []
  /// The first file that may still come.
  private var next = 0
  /// By the index of the file; nil where none came (yet).
  private(set) var digests: [ContentDigest?]

  /// Longer than any record: 64 digits, a separator and a path, which no system lets grow beyond 4 KiB.
  private static let recordLimit = 64 * 1024

  /// - Parameters:
  ///   - count: How many files were named.
  ///   - name: The name of each, as it was sent.
  init(program: HashProgram, count: Int, name: @escaping (Int) -> [UInt8]) {
    self.program = program
    self.count = count
    self.name = name
    digests = Array(repeating: nil, count: count)
  }

  /// Files up to here are decided.
  var position: Int { next }

  /// Whether the far side's shell has begun to answer at all.
  var hasBegun: Bool { if case .preamble = stage { false } else { true } }

  /// Whether the mark that ends it has come.
  var isComplete: Bool { if case .complete = stage { true } else { false } }

  /// What came before the shell began, the first part of it.
  var preambleText: String { hasBegun ? "" : displayText(of: buffer.prefix(200)) }

  mutating func feed(_ bytes: ArraySlice<UInt8>) throws(Malformed) {
    buffer += bytes
    var position = 0
    defer { buffer.removeFirst(position) }
    while position < buffer.count {
      switch stage {
      case .preamble:
        guard let end = beginMark() else {
          if buffer.count > HashAnswer.recordLimit { throw Malformed(description: "the shell prints too much before it begins") }
          return
        }
        position = end
        stage = .records
      case .records:
        if buffer[position] == RemoteCommand.end[0] {
          stage = .trailer
          continue
        }
        guard let end = buffer[position...].firstIndex(of: program.terminator) else {
          if buffer.count - position > HashAnswer.recordLimit { throw Malformed(description: "a record without end") }
          return
        }
        try take(buffer[position..<end])
        position = end + 1
      case .trailer:
        guard let end = buffer[position...].firstIndex(of: UInt8(ascii: "\n")) else {
          if buffer.count - position > 64 { throw Malformed(description: "an end mark without end") }
          return
        }
        stage = .complete(status: try status(buffer[position..<end]))
        position = end + 1
      case .complete:
        throw Malformed(description: "more after the end: “\(displayText(of: buffer[position...].prefix(80)))”")
      }
    }
  }

  /// The whole answer has come.
  /// - Throws: Where it is cut short, or the exit status does not go with it: 0 means that every file was hashed; 1 and 123 (of xargs)
  ///   that some could not be. Anything else means that the program was killed or not found, and the missing ones prove nothing.
  func finish() throws(Malformed) {
    guard case .complete(let status) = stage else { throw Malformed(description: hasBegun ? "it is cut short" : "“\(preambleText)”") }
    switch status {
    case 0:
      if let missing = digests.firstIndex(of: nil) {
        throw Malformed(description: "no digest of \(displayText(of: name(missing))), and no error either")
      }
    case 1, 123: break
    default: throw Malformed(description: "xargs \(program.programName) ended with status \(status)")
    }
  }

  /// Where the mark ends; it begins a line.
  private func beginMark() -> Int? {
    let mark = RemoteCommand.begin
    guard buffer.count >= mark.count else { return nil }
    for start in 0...(buffer.count - mark.count) where start == 0 || buffer[start - 1] == UInt8(ascii: "\n") {
      if buffer[start..<(start + mark.count)].elementsEqual(mark) { return start + mark.count }
    }
    return nil
  }

  private mutating func take(_ record: ArraySlice<UInt8>) throws(Malformed) {
    let rest = record.dropFirst(64)
    guard let digest = ContentDigest(hex: record.prefix(64)), rest.starts(with: program.separator) else {
      throw Malformed(description: "not a digest and a name: “\(displayText(of: record.prefix(120)))”")
    }
    let printed = rest.dropFirst(program.separator.count)
    // Files that could not be read are passed over; the order is kept, so the search never goes back.
    while next < count {
      let expected = name(next)
      next += 1
      if printed == expected[...] {
        digests[next - 1] = digest
        return
      }
    }
    throw Malformed(description: "a file that was not asked for, or twice: “\(displayText(of: printed.prefix(120)))”")
  }

  private func status(_ line: ArraySlice<UInt8>) throws(Malformed) -> Int {
    let digits = line.dropFirst(RemoteCommand.end.count)
    guard line.starts(with: RemoteCommand.end), (1...3).contains(digits.count),
      digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { throw Malformed(description: "a strange end: “\(displayText(of: line))”") }
    return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
  }
}
