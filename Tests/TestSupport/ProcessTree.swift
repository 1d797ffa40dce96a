import Foundation
import Glibc

/// Processes by id, as `/proc` shows them.
package enum ProcessTree {
  /// All descendants of a process, parents before children, without itself.
  static func descendants(of root: pid_t) -> [pid_t] {
    var children: [pid_t: [pid_t]] = [:]
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []  // without /proc there is nothing to find
    for name in names {
      guard let pid = pid_t(name), let fields = fields(of: pid), fields.count > 1, let parent = pid_t(fields[1]) else { continue }
      children[parent, default: []].append(pid)
    }
    var found: [pid_t] = []
    var next = [root]
    while let pid = next.popLast() {
      let below = children[pid] ?? []
      found += below
      next += below
    }
    return found
  }

  /// Whether the process still runs (a zombie does not).
  package static func isAlive(_ pid: pid_t) -> Bool {
    guard let state = fields(of: pid)?.first else { return false }
    return state != "Z" && state != "X"
  }

  /// Whether any thread of a process is not stopped.
  static func runs(_ pid: pid_t) -> Bool {
    let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []  // it may be gone by now
    return threads.contains { thread in
      guard let state = fields(ofFile: "/proc/\(pid)/task/\(thread)/stat")?.first else { return false }
      return state != "T" && state != "Z" && state != "X"
    }
  }

  /// Kills the processes and waits until they are gone, at most two seconds.
  static func kill(_ pids: [pid_t]) async throws {
    for pid in pids { Glibc.kill(pid, SIGKILL) }
    for _ in 0..<200 {
      if !pids.contains(where: isAlive) { return }
      try await Task.sleep(nanoseconds: 10_000_000)
    }
    throw TemporaryFolder.Failure("these processes cannot be killed: \(pids.filter(isAlive))")
  }

  /// The fields of `/proc/PID/stat` after the name: state, parent, …
  private static func fields(of pid: pid_t) -> [Substring]? { fields(ofFile: "/proc/\(pid)/stat") }

  private static func fields(ofFile path: String) -> [Substring]? {
    guard let stat = try? String(contentsOfFile: path, encoding: .isoLatin1),  // it may be gone by now
      let end = stat.lastIndex(of: ")")
    else { return nil }
    return stat[stat.index(after: end)...].split(separator: " ")
  }
}

/// Ends a server with its process group and removes its folder when the test process dies without doing so itself: a crash must leave nothing behind.
///
/// The test process holds a lock; another process waits for it.
final class Watchdog: Sendable {
  private let descriptor: Int32
  private let process: ChildProcess

  init(server: pid_t, folder: TemporaryFolder) throws {
    let file = try folder.write([], to: "alive", mode: 0o600)
    descriptor = open(file, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw TemporaryFolder.Failure("cannot lock \(file)") }
    process = try ChildProcess(
      // What is being killed may still write; an interrupt from the terminal is not for the watchdog.
      ["flock", file, "/bin/sh", "-c", "kill -9 -\(server) \(server); sleep 0.2; rm -rf '\(folder.path)'"], directory: "/", ownGroup: true)
  }

  deinit { close(descriptor) }

  /// Before the server is ended in order.
  func dismiss() async {
    kill(process.id, SIGKILL)
    _ = await process.exitStatus()
  }
}
