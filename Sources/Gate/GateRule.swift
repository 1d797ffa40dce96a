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
  /// The name of every entry once, and before them the names below the equipment's folder that lead to the run.
  package let names: [Name]

  package init(snapshot: RunSnapshot, location: RunLocation, context: GateContext) {
    self.snapshot = snapshot
    self.location = location
    self.context = context
    record = Self.readRecord(of: snapshot)
    var names: [Name] = []
    names.reserveCapacity(snapshot.entries.count + 4)
    for segment in location.relative.segments { names.append(Name(bytes: segment, path: nil)) }
    for entry in snapshot.entries {
      let bytes = entry.path.bytes
      let start = bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
      names.append(Name(bytes: bytes[start...], path: entry.path))
    }
    self.names = names
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
