import CLinux
import JobQueue
import SyncModel

extension JobRunner {
  /// Runs of so many entries leave holes in the heap that are worth looking for.
  private static let manyEntries = 20_000

  /// Gives what a stage of a large run has freed back to the kernel: the next one needs as much again, in pieces of other sizes.
  /// - Parameter count: How many entries the run has.
  func returnMemory(ofEntries count: Int) async {
    guard count >= Self.manyEntries else { return }
    // It looks through the whole heap: some milliseconds.
    await environment.readers.next().run { clinux_return_memory() }
  }
}

extension [ComponentRow] {
  /// Takes the paths from a list that holds the same ones, so that they are in memory once. Both are in the order of their paths' bytes.
  mutating func sharePaths(with entries: [RunEntry]) {
    var next = entries.startIndex
    for index in indices {
      let own = self[index].entry
      while next < entries.endIndex, entries[next].path < own.path { next += 1 }
      guard next < entries.endIndex else { return }
      guard entries[next].path == own.path else { continue }
      self[index].entry = RunEntry(path: entries[next].path, kind: own.kind, fingerprint: own.fingerprint, unreadable: own.unreadable)
    }
  }
}
