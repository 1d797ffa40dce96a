import SyncModel

/// `changed_after_sync`: a file that is on the NAS already is another one now.
///
/// Times alone are no proof: a copied or touched file is compared by its digest where the caller can make one. A published file that
/// is gone is no difference of this kind (a clean-up may have removed it).
struct ChangedAfterSyncRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let published = subject.context.published
    if published.isEmpty { return }
    for entry in subject.snapshot.entries {
      guard let before = published[entry.path], let difference = Self.difference(entry, before, subject) else { continue }
      report.add(
        Finding(
          .changedAfterSync, .hard, path: entry.path.findingText, detail: "it differs from what is on the NAS: \(difference)",
          hint: "Find out which of the two is right. Put the old file back, or save the new one under another name."))
    }
  }

  private static func difference(_ entry: RunEntry, _ before: PublishedComponent, _ subject: GateSubject) -> String? {
    guard entry.kind == .file else { return "it is no regular file any more" }
    let old = before.fingerprint
    let new = entry.fingerprint
    if new.size != old.size { return "\(old.size) bytes there, \(new.size) here" }
    if new.modified == old.modified && new.changed == old.changed && new.inode == old.inode { return nil }
    guard let digestOfFile = subject.context.digestOfFile else { return "it was written to or replaced" }
    do {
      return try digestOfFile(subject.location, entry.path) == before.digest ? nil : "the content has another SHA-256"
    } catch {
      return "it was written to or replaced, and cannot be compared: \(displayText(String(describing: error)))"
    }
  }
}
