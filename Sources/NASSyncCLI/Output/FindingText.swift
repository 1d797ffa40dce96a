import NASSync
import SyncModel

/// Findings of the gate as lines for people.
enum FindingText {
  /// More than this many of a run are counted only: `--json` has them all.
  static let limit = 50

  /// Each finding with its place and its next step, indented.
  static func lines(_ findings: [Finding]) -> [String] {
    var lines: [String] = []
    for finding in findings.prefix(limit) {
      let place = [finding.path.map { displayText($0) }, finding.location.map { displayText($0) }].compactMap { $0 }.joined(separator: ", ")
      lines.append("  \(displayText(finding.problemClass.rawValue))\(place.isEmpty ? "" : "  \(place)")")
      lines.append("    \(displayText(finding.detail))")
      if let validator = finding.validator {
        lines.append("    \(finding.problemClass == .validatorFailed ? "about" : "said by") the validator \(displayText(validator))")
      }
      if !finding.hint.isEmpty { lines.append("    \(displayText(finding.hint))") }
    }
    if findings.count > limit { lines.append("  … and \(findings.count - limit) more; `--json` lists all") }
    return lines
  }

  /// One finding in half a sentence.
  static func summary(_ findings: [Finding]) -> String {
    guard let first = findings.first else { return "findings" }
    let place = first.path.map { " at \(displayText($0))" } ?? ""
    let more = findings.count > 1 ? " (and \(findings.count - 1) more)" : ""
    return "\(displayText(first.problemClass.rawValue))\(place): \(displayText(first.detail))\(more)"
  }

  /// What a person can type to let the findings pass: a command for each class that can be overridden, and what to do about the others.
  static func nextSteps(_ findings: [Finding], run: String, config: String?, equipment: String? = nil) -> [String] {
    let vain = classes(of: findings.filter(\.overrideIsVain))
    // One that would let the others of its class pass is of no use while the run is stopped all the same.
    let overridable = findings.filter { !vain.contains($0.problemClass) }
    var lines: [String] = []
    if !overridable.isEmpty {
      lines.append("  Repair it, or let it pass on the record:")
      for problemClass in classes(of: overridable) {
        let paths = overridable.filter { $0.problemClass == problemClass }.map(\.path)
        lines.append("    " + command(problemClass, paths: paths, run: run, config: config, equipment: equipment))
      }
    }
    for problemClass in vain { lines.append(noOverride(problemClass, findings)) }
    return lines
  }

  /// In the order in which they come.
  private static func classes(of findings: [Finding]) -> [FindingClass] {
    var classes: [FindingClass] = []
    for finding in findings where !classes.contains(finding.problemClass) { classes.append(finding.problemClass) }
    return classes
  }

  private static func noOverride(_ problemClass: FindingClass, _ findings: [Finding]) -> String {
    if FindingClass.overrideIsVain.contains(problemClass) {
      return "  No override helps against \(problemClass.rawValue): it has to be repaired."
    }
    let first = findings.first { $0.problemClass == problemClass && $0.isFinal }?.path.map { " at \(displayText($0))" } ?? ""
    return "  No override helps against this \(problemClass.rawValue)\(first): it has to be repaired."
  }

  /// The command, narrowed to the path where the class was found at one place only.
  private static func command(_ problemClass: FindingClass, paths: [String?], run: String, config: String?, equipment: String?) -> String {
    var words = ["nassync"]
    if let config { words += ["--config", shellWord(config)] }
    words += ["override", "add", shellWord(run), "--class", shellWord(problemClass.rawValue)]
    if paths.count == 1, let path = paths.first ?? nil, isPath(path) { words += ["--path", shellWord(path)] }
    if let equipment { words += ["--equipment", shellWord(equipment)] }
    return (words + ["--reason", "'WHY'"]).joined(separator: " ")
  }

  private static func isPath(_ text: String) -> Bool {
    do {
      _ = try RelativePath(text)
      return true
    } catch { return false }
  }
}
