import SyncModel

/// `malformed_yaml_front_matter`: the YAML block at the start of a Markdown file is not closed or not YAML.
struct FrontMatterRule: GateRule {
  func check(_ text: EligibleText, into report: inout FindingReport) {
    guard let problem = text.frontMatter?.problem else { return }
    report.add(
      Finding(
        .malformedYAMLFrontMatter, .soft, path: text.path.findingText, detail: problem.reason, location: "line \(problem.line)",
        hint: "The run is sent all the same. Mend the block between the --- lines, so that programs can read it."))
  }
}
