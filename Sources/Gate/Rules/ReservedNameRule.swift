import SyncModel

/// `reserved_filesystem_name`: names that are devices on Windows, in any case and with any extension.
struct ReservedNameRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names {
      guard let reserved = WindowsDeviceName.found(in: name.bytes) else { continue }
      report.add(
        Finding(
          .reservedFilesystemName, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) is the device \(reserved) on Windows",
          hint: "Rename it, for example by putting a word in front; Windows cannot open such a file."))
    }
  }
}
