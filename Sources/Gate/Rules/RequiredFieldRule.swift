import Intake
import SyncModel

/// `missing_required_field`: what the record's own schema version asks for, and the fields that the lab's configuration asks for.
///
/// Record: `created_at`, `created_by` and `level` always; `run_kind` since schema 1.1, `lims_project` since 1.5. The lab's fields are looked
/// for in `readme_fields.json` in the metadata folder, in its layers of core, template, configuration and custom fields (custom ones by label).
struct RequiredFieldRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    if case .readable(let record) = subject.record {
      var keys = ["schema_version", "created_at", "created_by", "level"]
      let minor = Self.minorVersion(record.schemaVersion)
      if minor >= 1 { keys.append("run_kind") }
      if minor >= 5 { keys.append("lims_project") }
      for key in keys where !record.has(key) { report.add(Self.finding(key, "the record (creation.json)", path: nil)) }
    }
    checkFields(subject, into: &report)
  }

  private func checkFields(_ subject: GateSubject, into report: inout FindingReport) {
    let wanted = subject.context.requiredFields
    if wanted.isEmpty { return }
    let name = "\(subject.snapshot.metadataFolder)/readme_fields.json"
    let entry = subject.snapshot.entries.first { $0.path.bytes.elementsEqual(name.utf8) && $0.kind == .file }
    guard let entry, entry.fingerprint.size <= UInt64(RecordFile.maxBytes) else {
      for field in wanted { report.add(Self.finding(field, name, path: nil)) }
      return
    }
    let present: Set<[UInt8]>
    do {
      let folder = try RunFolder(root: subject.snapshot.root)
      let bytes = try LocalFileReader(in: folder, path: entry.path).read(at: 0, upTo: RecordFile.maxBytes)
      present = Self.filledFields(try JSONDocument(parsing: bytes))
    } catch {
      report.add(
        Finding(
          .missingRequiredField, .soft, path: name, detail: "the fields cannot be read: \(displayText(String(describing: error)))",
          hint: "Mend the file; until then nobody can tell whether the required fields are there."))
      return
    }
    for field in wanted where !present.contains(Array(field.utf8)) { report.add(Self.finding(field, name, path: name)) }
  }

  private static func filledFields(_ document: JSONDocument) -> Set<[UInt8]> {
    var filled: Set<[UInt8]> = []
    for layer in ["core_fields", "template_fields", "config_fields"] {
      guard case .one(let node) = document.lookUp(layer), case .object(let members) = node.value else { continue }
      for member in members where isFilled(member.node) { filled.insert(member.key) }
    }
    guard case .one(let node) = document.lookUp("custom_fields"), case .array(let elements) = node.value else { return filled }
    for element in elements {
      guard case .one(let label) = JSONDocument.lookUp("label", in: element), case .string(let text) = label.value,
        case .one(let value) = JSONDocument.lookUp("value", in: element), isFilled(value)
      else { continue }
      filled.insert(text)
    }
    return filled
  }

  private static func isFilled(_ node: JSONNode) -> Bool {
    switch node.value {
    case .null: false
    case .string(let text): text.contains { $0 != 0x20 && $0 != 0x09 && $0 != 0x0a && $0 != 0x0d }
    default: true
    }
  }

  /// The part after the dot of `1.8`; 0 where there is none, because such a record promises nothing.
  private static func minorVersion(_ version: String?) -> Int {
    let parts = (version ?? "").split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let major = Int(parts[0]), let minor = Int(parts[1]) else { return 0 }
    return major > 1 ? .max : minor
  }

  private static func finding(_ field: String, _ place: String, path: String?) -> Finding {
    Finding(
      .missingRequiredField, .soft, path: path, detail: "\(displayText(place)) has no \(displayText(field))", location: field,
      hint: "The run is sent all the same. Fill the field in, so that it can be found later.")
  }
}
