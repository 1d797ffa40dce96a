import SyncModel

/// `reserved_filesystem_name`: names that are devices on Windows, in any case and with any extension.
struct ReservedNameRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names {
      guard let reserved = Self.reservedName(in: name.bytes) else { continue }
      report.add(
        Finding(
          .reservedFilesystemName, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) is the device \(reserved) on Windows",
          hint: "Rename it, for example by putting a word in front; Windows cannot open such a file."))
    }
  }

  private static func reservedName(in name: ArraySlice<UInt8>) -> String? {
    var stem = name.prefix { $0 != UInt8(ascii: ".") }
    while stem.last == UInt8(ascii: " ") { stem.removeLast() }
    guard stem.count == 3 || stem.count == 4 else { return nil }
    let upper = stem.map { $0 >= 0x61 && $0 <= 0x7a ? $0 & 0xdf : $0 }
    let text = String(decoding: upper, as: UTF8.self)
    switch text.prefix(3) {
    case "CON", "PRN", "AUX", "NUL": return upper.count == 3 ? text : nil
    case "COM", "LPT": return upper.count == 4 && upper[3] >= 0x31 && upper[3] <= 0x39 ? text : nil
    default: return nil
    }
  }
}
