import SyncModel

/// `special_file`: sockets, named pipes and devices cannot be sent, nor can links where the destination holds none; nor can anything that has the name of a file this program writes.
struct SpecialFileRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let metadata = Array(subject.snapshot.metadataFolder.utf8)
    for entry in subject.snapshot.entries {
      if case .special(let name) = entry.kind {
        report.add(
          Finding(
            .specialFile, .hard, path: entry.path.findingText, detail: "it is a \(name), not a file",
            hint: "Remove it from the run, or exclude it in the equipment's profile."))
      } else if case .symlink(let target) = entry.kind, !subject.context.limits.holdsSymlinks {
        report.add(
          Finding(
            .specialFile, .hard, path: entry.path.findingText,
            detail: "it is a symbolic link to \(quotation(target)), and this destination cannot hold links",
            hint: "Replace the link by what it points at, remove it, or exclude it in the equipment's profile."))
      } else if entry.path.parent?.bytes == metadata,
        RunSnapshot.bookkeepingNames.contains(where: { entry.path.lastSegment.elementsEqual($0.utf8) })
      {
        report.add(
          Finding(
            .specialFile, .hard, path: entry.path.findingText, detail: "a link or folder stands where this program writes a file",
            hint: "Remove it or move it elsewhere."))
      }
    }
  }
}
