import SyncModel

/// One rule of the gate. Rules do not know of each other, of overrides or of the queue.
package protocol GateRule: Sendable {
  /// Looks at names, kinds, times and the record. Blocking.
  func check(_ subject: GateSubject, into report: inout FindingReport)
  /// Looks into one eligible file. Blocking.
  func check(_ text: EligibleText, into report: inout FindingReport)
}

extension GateRule {
  package func check(_ subject: GateSubject, into report: inout FindingReport) {}
  package func check(_ text: EligibleText, into report: inout FindingReport) {}
}

/// What the rules look at.
package struct GateSubject: Sendable {
  /// What became of the record.
  package enum Record: Sendable {
    case none
    case readable(RunRecord)
    case unreadable(String)
  }

  /// A name somewhere on the way from the equipment's folder down to a file.
  package struct Name: Sendable {
    package let bytes: ArraySlice<UInt8>
    /// The entry below the run that has the name; nil for the run's own folder and those above it.
    package let path: RelativePath?

    /// The path as a finding gives it.
    package var findingPath: String? { path?.findingText }
  }

  package let snapshot: RunSnapshot
  package let location: RunLocation
  package let context: GateContext
  package let record: Record

  package init(snapshot: RunSnapshot, location: RunLocation, context: GateContext) {
    self.snapshot = snapshot
    self.location = location
    self.context = context
    record = Self.readRecord(of: snapshot)
  }

  /// The name of every entry once, and before them the names below the equipment's folder that lead to the run.
  package var names: Names { Names(leading: location.relative.segments, entries: snapshot.entries) }

  /// Made while they are gone through: of a million entries there is no second list.
  package struct Names: Sequence, IteratorProtocol {
    private let leading: [ArraySlice<UInt8>]
    private let entries: [RunEntry]
    private var position = 0

    fileprivate init(leading: [ArraySlice<UInt8>], entries: [RunEntry]) {
      self.leading = leading
      self.entries = entries
    }

    package mutating func next() -> Name? {
      defer { position += 1 }
      if position < leading.count { return Name(bytes: leading[position], path: nil) }
      guard position - leading.count < entries.count else { return nil }
      let path = entries[position - leading.count].path
      let start = path.bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
      return Name(bytes: path.bytes[start...], path: path)
    }
  }

  /// The record of a snapshot. One that is there and cannot be read is never taken for none.
  static func readRecord(of snapshot: RunSnapshot) -> Record {
    if let reason = snapshot.recordUnreadable { return .unreadable(reason) }
    guard let bytes = snapshot.record else { return .none }
    do { return .readable(try RunRecord(parsing: bytes)) } catch { return .unreadable(error.description) }
  }
}

extension RelativePath {
  /// The path as findings and overrides spell it.
  package var findingText: String { string ?? description }
}

/// Words that several rules need.
func place(of name: GateSubject.Name) -> String { name.path == nil ? "the folder name" : "the name" }

/// A piece of text in a message: escaped, in quotation marks, cut where it is long.
func quotation(_ bytes: some Collection<UInt8>) -> String {
  let limit = 80
  return "“\(displayText(of: bytes.prefix(limit)))\(bytes.count > limit ? "…" : "")”"
}
