import SyncModel

/// What a validator may answer: `Specs/schemas/validator-output.schema.json`. Keys that are not known are ignored.
enum ValidatorOutput {
  /// Longer texts are cut, longer paths refused. Bytes.
  private static let textLimit = 2000
  private static let pathLimit = 4096

  static func findings(parsing bytes: [UInt8], validator: String) throws(ValidatorFailure) -> [Finding] {
    let root: JSONNode
    do throws(JSONSyntaxError) { root = try JSONParser.parse(bytes) } catch {
      if bytes.isEmpty { throw disagreement("nothing at all came") }
      throw disagreement("it is no JSON: \(error)")
    }
    guard case .object = root.value else { throw disagreement("it is not an object") }
    guard case .one(let list) = JSONDocument.lookUp("findings", in: root), case .array(let elements) = list.value else {
      throw disagreement("findings is not there once as an array")
    }
    var report = FindingReport()
    for (index, element) in elements.enumerated() {
      do throws(Fault) { report.add(try finding(element, validator: validator)) } catch {
        throw disagreement("findings[\(index)]: \(error.reason)")
      }
    }
    return report.findings
  }

  private struct Fault: Error { let reason: String }

  private static func finding(_ node: JSONNode, validator: String) throws(Fault) -> Finding {
    guard case .object = node.value else { throw Fault(reason: "it is not an object") }
    let name = try required("problem_class", in: node)
    guard isClassName(name) else { throw Fault(reason: "problem_class is not of the form snake_case: \(displayText(cut(name, 80)))") }
    let tierName = try required("tier", in: node)
    guard let tier = Finding.Tier(rawValue: tierName) else {
      throw Fault(reason: "tier is neither hard nor soft: \(displayText(cut(tierName, 80)))")
    }
    let path = try optional("path", in: node)
    if let path, path.utf8.count > pathLimit { throw Fault(reason: "path is longer than \(pathLimit) bytes") }
    return Finding(
      FindingClass(rawValue: name), tier, path: path, detail: cut(try required("detail", in: node), textLimit),
      location: try optional("location", in: node).map { cut($0, textLimit) },
      hint: cut(
        try optional("hint", in: node) ?? "The lab's validator \(validator) asks for this; whoever keeps it can say more.", textLimit),
      validator: validator)
  }

  private static func isClassName(_ name: String) -> Bool {
    guard let first = name.utf8.first, (0x61...0x7a).contains(first), name.utf8.count <= 64 else { return false }
    return name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
  }

  private static func required(_ key: String, in node: JSONNode) throws(Fault) -> String {
    guard let text = try optional(key, in: node), !text.isEmpty else { throw Fault(reason: "\(key) is missing or empty") }
    return text
  }

  private static func optional(_ key: String, in node: JSONNode) throws(Fault) -> String? {
    switch JSONDocument.lookUp(key, in: node) {
    case .absent: return nil
    case .repeated: throw Fault(reason: "\(key) stands there twice")
    case .one(let value):
      switch value.value {
      case .string(let bytes): return String(decoding: bytes, as: UTF8.self)
      case .null: return nil
      default: throw Fault(reason: "\(key) is not a string")
      }
    }
  }

  private static func cut(_ text: String, _ limit: Int) -> String {
    guard text.utf8.count > limit else { return text }
    var result = ""
    var count = 0
    for scalar in text.unicodeScalars {
      count += UTF8.width(scalar)
      if count > limit { break }
      result.unicodeScalars.append(scalar)
    }
    return result + "…"
  }

  private static func disagreement(_ reason: String) -> ValidatorFailure {
    ValidatorFailure("did not answer as agreed: \(reason)", hint: "Its answer must follow validator-output.schema.json. Mend the program.")
  }
}
