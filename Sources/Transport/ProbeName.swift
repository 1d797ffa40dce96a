import Digests
import Glibc
import SyncModel
import Synchronization

/// Names of what a probe leaves in a destination's root for a moment: `.nassync-probe-<workstation>-<process>-<random>`.
///
/// A process that dies while it asks leaves its probe behind. The name says whose it was, so that the next process of the same workstation
/// removes it, and never one that another process is just using.
package enum ProbeName {
  package static let prefix = ".nassync-probe-"

  /// Those of this process that nobody looks after any more.
  private static let left = Mutex<Set<[UInt8]>>([])

  /// A new name, which nobody else has.
  package static func make() throws(TransportError) -> RelativePath {
    try path("\(prefix)\(workstation)-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 16))")
  }

  /// Has a probe make something under a new name in a destination's root, and remove it. Where the probe fails, the next one removes what may be
  /// there still, as if this process had died.
  package static func lend<Found>(
    in root: RemotePath, _ probe: (RemotePath) async throws(TransportError) -> Found
  ) async throws(TransportError) -> Found {
    let place = root.appending(try make())
    do throws(TransportError) { return try await probe(place) } catch {
      leave(place)
      throw error
    }
  }

  /// Something may be there that could not be removed: the next probe removes it.
  package static func leave(_ place: RemotePath) {
    // Where nothing can be made for weeks, every trial leaves a name. What is beyond this many waits for the process to end.
    guard let name = place.relative?.lastSegment else { return }
    left.withLock { if $0.count < 10_000 { $0.insert(Array(name)) } }
  }

  /// Whether a name is that of a probe of this workstation that nobody looks after any more.
  static func isAbandoned(_ name: RelativePath) -> Bool {
    guard let text = name.string, text.hasPrefix(prefix) else { return false }
    let parts = text.dropFirst(prefix.count).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == workstation, let process = pid_t(parts[1]), process > 0 else { return false }
    if process == getpid() { return left.withLock { $0.contains(name.bytes) } }
    return kill(process, 0) != 0 && errno == ESRCH
  }

  /// Removes what processes of this workstation left in the root when they died. What cannot be removed stays: it is small, and no
  /// reason to fail.
  package static func removeAbandoned(in root: RemotePath, session: any TransportSession) async throws(TransportError) {
    let entries: [RemoteEntry]
    do { entries = try await session.list(root) } catch {
      if error.sessionLost { throw error }
      return
    }
    for entry in entries where isAbandoned(entry.name) {
      do {
        let path = root.appending(entry.name)
        if entry.kind == .folder { try await session.removeTree(path) } else { try await session.removeFile(path) }
      } catch {
        if error.sessionLost { throw error }
        // One that is gone would be waited for with every name; one that is busy is left alone.
        if error.isUnanswered { return }
      }
    }
  }

  /// Tells workstations apart that share a destination: of the machine's id and its name, since cloned images share the id.
  package static let workstation: String = {
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    var identity = name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    let file = open("/etc/machine-id", O_RDONLY | O_CLOEXEC)
    if file >= 0 {
      var text = [UInt8](repeating: 0, count: 64)
      let count = read(file, &text, text.count)
      if count > 0 { identity += text.prefix(count) }
      close(file)
    }
    return String(SHA256Hasher.digest(of: identity)?.hex.prefix(12) ?? "unknown")
  }()

  private static func path(_ name: String) throws(TransportError) -> RelativePath {
    do { return try RelativePath(name) } catch {
      throw .failure(SyncFailure(.protocol, "\(name) is no name", hint: "Report this."), sessionLost: false)
    }
  }
}
