import SyncModel

/// `illegal_filesystem_character`: what Windows, and so a NAS that serves it, refuses in a name.
///
/// Control characters (C0, DEL and C1), `< > : " \ | ? *`, and a dot or space at the end. `/` and NUL cannot occur on Linux. And, beside
/// these, what the run's own destination was found to refuse or to change.
struct IllegalCharacterRule: GateRule {
  private static let forbidden: [Bool] = {
    var table = [Bool](repeating: false, count: 256)
    for byte in 0..<0x20 { table[byte] = true }
    table[0x7f] = true
    for byte in "<>:\"\\|?*".utf8 { table[Int(byte)] = true }
    return table
  }()

  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    for name in subject.names {
      if let what = Self.problem(name.bytes) {
        let alsoThere = limits.refusal(of: name.bytes) != nil
        report.add(
          Finding(
            .illegalFilesystemCharacter, .hard, path: name.findingPath, detail: "\(place(of: name)) \(quotation(name.bytes)) \(what)",
            hint: alsoThere
              ? "Rename it without that; this destination does not hold such a name, so an override would not help."
              : "Rename it without that; many NAS and every Windows computer refuse such a name."))
      } else if let trait = limits.refusal(of: name.bytes, apartFrom: Self.hasOwnRule),
        !limits.withheld.contains(where: { $0.matches(name.bytes) })
      {
        report.add(
          Finding(
            .illegalFilesystemCharacter, .hard, path: name.findingPath,
            detail: "\(place(of: name)) \(quotation(name.bytes)) has \(trait), which this destination refuses, changes or does not list",
            hint: "Rename it without that. `nassync check` shows what names the destination holds; an override would not help."))
      }
    }
  }

  private static func hasOwnRule(_ trait: NameTrait) -> Bool { trait == .deviceName || trait == .notUTF8 }

  private static func problem(_ name: ArraySlice<UInt8>) -> String? {
    var previous: UInt8 = 0
    for byte in name {
      if forbidden[Int(byte)] {
        return byte < 0x20 || byte == 0x7f
          ? "has the control character \(displayText(of: [byte]))" : "has the character \(displayText(of: [byte]))"
      }
      // U+0080 to U+009F.
      if previous == 0xc2, byte >= 0x80, byte <= 0x9f { return "has the control character \(displayText(of: [previous, byte]))" }
      previous = byte
    }
    switch name.last {
    case UInt8(ascii: "."): return "ends with a dot"
    case UInt8(ascii: " "): return "ends with a space"
    default: return nil
    }
  }
}
