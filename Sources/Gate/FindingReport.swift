import SyncModel

/// Collects findings and keeps their number bounded: a run of 100,000 bad names must not make 100,000 lines.
///
/// What is left out is still said, by one closing finding of the same class and tier, without a path: an override of the class lets it
/// pass, one for a single path does not, and none where the findings are final, so nothing slips through by being left out.
package struct FindingReport: Sendable {
  /// How many findings of one run are listed.
  package static let totalLimit = 1000
  /// Findings of one class inside one file.
  package static let perFileLimit = 20

  private struct Key: Hashable {
    let problemClass: FindingClass
    let tier: Finding.Tier
    let isFinal: Bool
  }

  private struct Group {
    var kept: [Finding] = []
    var count = 0
  }

  private var groups: [Key: Group] = [:]
  private var order: [Key] = []

  private let limit: Int

  /// - Parameter limit: Findings that are kept in all, closing ones not counted.
  package init(limit: Int = Self.totalLimit) { self.limit = limit }

  package mutating func add(_ finding: Finding) {
    let key = Key(problemClass: finding.problemClass, tier: finding.tier, isFinal: finding.isFinal)
    if groups[key] == nil { order.append(key) }
    groups[key, default: Group()].count += 1
    if groups[key, default: Group()].kept.count < limit { groups[key, default: Group()].kept.append(finding) }
  }

  /// The same for what a rule found inside one file: the first few places, and the rest as one finding.
  /// - Parameter make: Makes the finding of a place; not called once the class has more findings than will ever be listed.
  mutating func add(
    _ places: (matches: [MarkerScanner.Match], count: Int), of problemClass: FindingClass, inFile path: RelativePath,
    _ make: (MarkerScanner.Match) -> Finding
  ) {
    guard places.count > 0 else { return }
    let hidden = places.count - places.matches.count
    let key = Key(problemClass: problemClass, tier: .hard, isFinal: false)
    if let group = groups[key], group.kept.count >= limit {
      groups[key]?.count += places.matches.count + (hidden > 0 ? 1 : 0)
      return
    }
    let findings = places.matches.map(make)
    for finding in findings { add(finding) }
    guard hidden > 0, let last = findings.last else { return }
    add(Finding(problemClass, .hard, path: path.findingText, detail: "\(hidden) more in this file", hint: last.hint))
  }

  /// Hard findings first; within a tier each class in the order in which its first finding came.
  package var findings: [Finding] {
    var result: [Finding] = []
    var remaining = limit
    for tier in [Finding.Tier.hard, .soft] {
      let keys = order.filter { $0.tier == tier }
      let allowance = Self.share(remaining, among: keys.map { groups[$0]?.kept.count ?? 0 })
      for (key, allowed) in zip(keys, allowance) {
        guard let group = groups[key] else { continue }
        result += group.kept.prefix(allowed)
        remaining -= min(allowed, group.kept.count)
        let left = group.count - min(allowed, group.kept.count)
        guard left > 0 else { continue }
        result.append(
          Finding(
            key.problemClass, tier, path: nil, detail: "\(left) more findings of this class are not listed",
            hint: group.kept.last?.hint ?? "Mend what is listed and check again.", isFinal: key.isFinal))
      }
    }
    return result
  }

  /// Shares a number so that a class that floods leaves room for those that do not.
  private static func share(_ total: Int, among wishes: [Int]) -> [Int] {
    var result = Array(repeating: 0, count: wishes.count)
    var remaining = total
    var open = wishes.count
    for index in wishes.indices.sorted(by: { wishes[$0] < wishes[$1] }) {
      result[index] = min(wishes[index], remaining / open)
      remaining -= result[index]
      open -= 1
    }
    return result
  }
}
