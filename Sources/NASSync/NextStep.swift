import SyncModel

/// Next steps as they can be typed: hints name commands without their run, because they are written where it is not known.
enum NextStep {
  /// Commands whose first word is a run.
  private static let commands = ["retry", "enqueue", "gate", "verify", "history", "status", "cleanup", "override list"]

  /// The hint with the run put into the commands that it names.
  /// - Parameter last: A command that ends it, unless the hint names it already.
  static func hint(_ text: String, run: String, then last: String? = nil) -> String {
    let path = shellWord(run)
    var result = text
    for command in commands { result = replacing("`nassync \(command)`", in: result, by: "`nassync \(command) \(path)`") }
    result = replacing("`nassync override add --class ", in: result, by: "`nassync override add \(path) --class ")
    guard let last, !text.contains("`nassync \(last)`") else { return result }
    return result + (result.isEmpty ? "" : " ") + "Then `nassync \(last) \(path)`."
  }

  private static func replacing(_ old: String, in text: String, by new: String) -> String {
    text.split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
  }
}
