import Intake
import SyncModel

/// Text of the run that rules look into.
package struct EligibleText: Sendable {
  /// The file.
  package let path: RelativePath
  /// The whole file.
  package let bytes: [UInt8]
  /// The part that rules look into: all of it, or a Markdown file's front matter without its `---` lines.
  package let scanned: Range<Int>
  /// Nil where the file is no Markdown.
  package let frontMatter: FrontMatter?

  /// `line 3`, and the key path where the format has keys and one can be told: `line 3 (sample.name)`.
  func location(of match: MarkerScanner.Match) -> String {
    let line = bytes[..<scanned.lowerBound].reduce(match.line) { $1 == 0x0a ? $0 + 1 : $0 }
    let offset = scanned.lowerBound + match.range.lowerBound
    guard let key = TextKeyPath.find(path, isFrontMatter: frontMatter != nil, bytes, in: scanned, at: offset) else { return "line \(line)" }
    return "line \(line) (\(key))"
  }
}

/// Reads the files that are eligible, one after another.
struct ContentScan {
  private let subject: GateSubject
  private let endings: [String]

  init(_ subject: GateSubject) {
    self.subject = subject
    endings = subject.context.content.extensions
  }

  /// Calls the body with each eligible file. A file that cannot be read is a finding, not a file without findings.
  func forEachText(report: inout FindingReport, _ body: (EligibleText, inout FindingReport) -> Void) {
    let eligible = subject.snapshot.entries.filter(isEligible)
    guard !eligible.isEmpty else { return }
    do throws(SyncFailure) {
      let folder = try RunFolder(root: subject.snapshot.root)
      for entry in eligible {
        do throws(SyncFailure) {
          if let text = try read(entry, in: folder) { body(text, &report) }
        } catch {
          report.add(UnreadableFileRule.finding(entry.path, reason: error.message))
        }
      }
    } catch {
      report.add(UnreadableFileRule.finding(nil, reason: error.message))
    }
  }

  private func isEligible(_ entry: RunEntry) -> Bool {
    let size = entry.fingerprint.size
    return entry.kind == .file && entry.unreadable == nil && size > 0 && size <= subject.context.content.maxBytes
      && entry.path.hasEnding(in: endings)
  }

  /// Nil for what turns out to be binary, or to have grown beyond the limit.
  private func read(_ entry: RunEntry, in folder: RunFolder) throws(SyncFailure) -> EligibleText? {
    let file = try LocalFileReader(in: folder, path: entry.path)
    let size = try file.fingerprint().size
    guard size <= subject.context.content.maxBytes else { return nil }
    let head = try file.read(at: 0, upTo: Int(clamping: min(size, 8192)))
    if head.contains(0) { return nil }
    let tail = size > 8192 ? try file.read(at: 8192, upTo: Int(clamping: size - 8192)) : []
    let bytes = tail.isEmpty ? head : head + tail
    guard entry.path.hasEnding(in: [".md", ".markdown"]) else {
      return EligibleText(path: entry.path, bytes: bytes, scanned: 0..<bytes.count, frontMatter: nil)
    }
    let frontMatter = FrontMatter(of: bytes)
    return EligibleText(path: entry.path, bytes: bytes, scanned: frontMatter.range, frontMatter: frontMatter)
  }
}

extension RelativePath {
  /// Whether the name ends so, ASCII letters in any case, with something before it.
  func hasEnding(in endings: [String]) -> Bool {
    endings.contains { ending in
      let suffix = Array(ending.utf8)
      guard !suffix.isEmpty, bytes.count > suffix.count else { return false }
      let start = bytes.count - suffix.count
      return bytes[start - 1] != UInt8(ascii: "/") && zip(bytes[start...], suffix).allSatisfy { lowercased($0) == lowercased($1) }
    }
  }
}

/// ASCII only.
func lowercased(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte }
