import SyncModel
import Transport

/// What `nassync check` asks of a destination, one line a question. Everything it makes lies in one folder, which it removes.
struct SFTPProbe {
  let settings: SFTPSettings
  let session: SFTPSession
  private(set) var lines: [DestinationProbe.Line] = []
  private(set) var capabilities: TransportCapabilities
  private(set) var freeSpace: UInt64?
  private(set) var names: DestinationNames?
  /// Why the root cannot be worked in.
  private(set) var failure: SyncFailure?

  init(settings: SFTPSettings, session: SFTPSession) {
    self.settings = settings
    self.session = session
    capabilities = session.capabilities
  }

  mutating func say(_ name: String, _ grade: DestinationProbe.Line.Grade, _ detail: String) {
    lines.append(DestinationProbe.Line(name: name, grade: grade, detail: detail))
  }

  /// Asks everything that needs no shell.
  /// - Returns: Whether the root can be worked in.
  mutating func askServer() async throws(TransportError) -> Bool {
    let root = RemotePath(root: settings.remoteRoot)
    say("ssh", .good, "\(session.carrier) makes the connection")
    say("server", .good, "\(displayText(settings.host)):\(settings.port) is \(capabilities.server)")
    let fingerprint = session.hostKeyFingerprint.isEmpty ? "" : " \(session.hostKeyFingerprint)"
    say("host_key", .good, "the host key\(fingerprint) is the known one")
    say("login", .good, "\(displayText(settings.user)) is logged in")
    let isThere = try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
      guard try await askRoot(root, scratch) else { return false }
      do throws(TransportError) {
        try await askRenaming(scratch)
        try await askSymlinks(scratch)
      } catch {
        if !error.sessionLost { try await session.removeTree(scratch) }
        throw error
      }
      try await session.removeTree(scratch)
      return true
    }
    guard isThere else { return false }
    askExtensions()
    try await askNames(root)
    try await askSpace(root)
    return true
  }

  /// Finds the root and makes the probe's folder in it.
  /// - Returns: Whether that works.
  private mutating func askRoot(_ root: RemotePath, _ scratch: RemotePath) async throws(TransportError) -> Bool {
    do {
      try await session.makeFolder(root)
      try await ProbeName.removeAbandoned(in: root, session: session)
      try await session.makeFolder(scratch)
    } catch {
      if error.sessionLost { throw error }
      ProbeName.leave(scratch)
      failure = error.failure
      say("root", .bad, "\(error.failure.message). \(error.failure.hint)")
      return false
    }
    say("root", .good, "\(root) exists and \(displayText(settings.user)) may write there")
    return true
  }

  private mutating func askRenaming(_ scratch: RemotePath) async throws(TransportError) {
    let (first, second) = (try Self.below(scratch, "a"), try Self.below(scratch, "b"))
    try await session.makeFolder(first)
    try await session.publish(first, as: second)
    guard try await session.entry(at: second)?.kind == .folder, try await session.entry(at: first) == nil else {
      capabilities.atomicPublish = false
      say("publish", .bad, "the server says that it renamed a folder and did not")
      return
    }
    say("publish", .good, "a run is published by one rename of its folder")
    guard session.extensions.contains(.posixRename) else {
      say("posix_rename", .limited, "replacing a file takes two steps (posix-rename is not offered)")
      return
    }
    try await session.put([1], at: first, modified: nil, mode: nil, durable: false)
    let third = try Self.below(scratch, "c")
    try await session.put([2, 2], at: third, modified: nil, mode: nil, durable: false)
    do {
      try await session.replace(first, over: third)
    } catch {
      if error.sessionLost { throw error }
      capabilities.atomicReplace = false
    }
    if capabilities.atomicReplace { capabilities.atomicReplace = try await session.entry(at: third)?.size == 1 }
    if capabilities.atomicReplace {
      say("posix_rename", .good, "a file is replaced in one step")
    } else {
      say("posix_rename", .limited, "posix-rename is offered and does not work: replacing a file takes two steps")
    }
  }

  private mutating func askSymlinks(_ scratch: RemotePath) async throws(TransportError) {
    do {
      try await session.makeSymlink(at: try Self.below(scratch, "link"), target: Array("target".utf8))
      say("symlinks", .good, "symbolic links can be made")
    } catch {
      if error.sessionLost { throw error }
      capabilities.symlinks = false
      say("symlinks", .limited, "symbolic links cannot be made: \(error.failure.message)")
    }
  }

  /// What cannot be found out is a limitation: the gate is careful then.
  private mutating func askNames(_ root: RemotePath) async throws(TransportError) {
    do {
      names = try await session.examineNames(in: root)
      lines += names?.lines ?? []
    } catch {
      if error.sessionLost { throw error }
      say("names", .limited, "what becomes of names could not be found out, so the careful assumptions hold: \(error.failure.message)")
    }
  }

  private mutating func askExtensions() {
    if capabilities.durableFlush {
      say("fsync", .good, "files can be forced to the NAS's disk")
    } else {
      say("fsync", .limited, "the NAS does not say when a file is on its disk (fsync is not offered)")
    }
    if let limits = session.limits {
      say(
        "limits", .good,
        "\(limits.writeLength) bytes a write, \(limits.openHandles == 0 ? "any number of" : "\(limits.openHandles)") open files")
    } else {
      say("limits", .limited, "the server does not name its limits: 32 KiB a write")
    }
  }

  private mutating func askSpace(_ root: RemotePath) async throws(TransportError) {
    freeSpace = try await session.freeSpace(at: root)
    guard let freeSpace else {
      capabilities.reportsFreeSpace = false
      say("free_space", .limited, "the NAS does not say how much is free (statvfs is not offered)")
      return
    }
    let (unit, name): (UInt64, String) = freeSpace < 1_000_000_000 ? (100_000, "MB") : (100_000_000, "GB")
    let tenths = freeSpace / unit
    say("free_space", freeSpace < 1 << 30 ? .limited : .good, "\(tenths / 10).\(tenths % 10) \(name) are free")
  }

  /// Says what came of looking for a shell, and how files will be proven therefore.
  mutating func tell(_ outcome: RemoteShellOutcome) {
    switch outcome {
    case .unavailable(let reason, _):
      say("shell", .limited, reason)
      say("evidence", .limited, "files are read back and hashed here (readback)")
    case .available(_, let facts):
      say("shell", .good, "commands can be run; the shell sees \(displayText(settings.remoteRoot)) as \(facts.shellRoot)")
      say(
        "hash_program", facts.hashesAnyName ? .good : .limited,
        facts.hashesAnyName
          ? "files are hashed there with \(facts.program)"
          : "files are hashed there with \(facts.program), but for names with line feeds or backslashes, which are read back")
      let streams = facts.canUnpack && facts.canSync
      say(
        "small_files", streams ? .good : .limited,
        streams
          ? "many small files go in one stream, which tar unpacks there"
          : "small files are sent one by one: the NAS has no \(facts.canUnpack ? "sync that writes a file system to its disk" : "tar")")
      say("evidence", .good, "files are hashed on the NAS itself (server)")
    }
  }

  private static func below(_ folder: RemotePath, _ name: String) throws(TransportError) -> RemotePath {
    do throws(RelativePath.Invalid) { return folder.appending(try RelativePath(name)) } catch {
      throw .failure(SyncFailure(.protocol, "\(folder) cannot hold \(name)", hint: "Correct remote_root."), sessionLost: false)
    }
  }
}
