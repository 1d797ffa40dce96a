import Executors
import Intake
import SyncModel

/// The built-in rules of the gate: the whole tree, names and text, record and links.
public struct BuiltInValidator: RunValidator {
  private let rules: [any GateRule]

  /// All rules.
  public init() { self.init(rules: Self.allRules) }

  /// Some rules, for tests.
  package init(rules: [any GateRule]) { self.rules = rules }

  /// Every rule there is.
  package static let allRules: [any GateRule] = [
    MalformedRecordRule(), EmptyRunRule(), ModePrefixRule(), NameNotUTF8Rule(), TemplateRemnantRule.placeholder,
    TemplateRemnantRule.jinjaMarker,
    IllegalCharacterRule(), ReservedNameRule(), PathLengthRule(), CaseCollisionRule(), NormalizationCollisionRule(), SymlinkEscapeRule(),
    SpecialFileRule(), UnreadableFileRule(), ChangedAfterSyncRule(), OrphanRule(), RequiredFieldRule(), FrontMatterRule(),
    EmptyFileRule(), UnknownOverrideRule(), OverrideLedgerRule(),
  ]

  /// Runs every rule on a thread of its own. Never throws: what cannot be read is a finding.
  public func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding] {
    // Reading files and folding names keeps a thread busy for seconds where a run is large: not one of the cooperative pool.
    let executor = ThreadExecutor(name: "gate")
    defer { executor.shutdown() }
    return await executor.run { findings(in: GateSubject(snapshot: run, location: location, context: context)) }
  }

  /// The same on the caller's thread. Blocking.
  package func findings(in subject: GateSubject) -> [Finding] {
    var report = FindingReport()
    for rule in rules { rule.check(subject, into: &report) }
    let scan = ContentScan(subject)
    scan.forEachText(report: &report) { text, report in
      for rule in rules { rule.check(text, into: &report) }
    }
    return report.findings
  }
}
