import SyncModel
import Transport

/// What `nassync check` asks of a WebDAV destination, one line a question. Everything it makes lies in one folder, which it removes.
struct WebDAVProbe {
  let settings: WebDAVSettings
  let session: WebDAVSession
  private var lines: [DestinationProbe.Line] = []
  private var failure: SyncFailure?
  private var freeSpace: UInt64?
  private var names: DestinationNames?

  init(settings: WebDAVSettings, session: WebDAVSession) {
    self.settings = settings
    self.session = session
  }

  private mutating func say(_ name: String, _ grade: DestinationProbe.Line.Grade, _ detail: String) {
    lines.append(DestinationProbe.Line(name: name, grade: grade, detail: detail))
  }

  mutating func ask() async throws(TransportError) -> DestinationProbe {
    let origin = settings.http.origin
    say("server", .good, "\(origin) is \(session.capabilities.server)")
    lines.append(settings.http.encryptionLine)
    let user = settings.http.user.map { displayText($0) }
    say("login", .good, user.map { "\($0) is logged in" } ?? "the server asks for no log-in")
    if try await askRoot(RemotePath(root: settings.root), user ?? "everybody") {
      sayPublishing()
      if session.findings.listsDotNames {
        say("listing", .good, "listings show every name")
      } else {
        say(
          "listing", .limited,
          "listings hide names that begin with a dot: the metadata folder is asked for by its name, runs with other such names are refused")
      }
      if session.findings.takesChunks {
        say(
          "resume", .good,
          "files of more than \(settings.chunkSize >> 20) MiB are sent in chunks; one that was cut off goes on with the chunk that was missing"
        )
      } else {
        say("resume", .limited, "a file that was cut off is sent again from its start: WebDAV has no way to go on inside it")
      }
      if session.capabilities.keepsTimes {
        say("times", .good, "files keep their modification times; those of folders are the NAS's own")
      } else {
        say("times", .limited, "the NAS sets modification times of its own")
      }
      say("symlinks", .limited, "WebDAV knows no symbolic links")
      say("fsync", .limited, "the NAS does not say when a file is on its disk")
      try await askNames(RemotePath(root: settings.root))
      try await askSpace(RemotePath(root: settings.root))
      say(
        "evidence", .limited,
        "files are read back and hashed here (readback): a WebDAV server has no checksum of what it stored, only of what it was sent")
    }
    return DestinationProbe(
      capabilities: session.capabilities, evidence: .readback, freeSpace: freeSpace, names: names, lines: lines, failure: failure)
  }

  private mutating func askRoot(_ root: RemotePath, _ user: String) async throws(TransportError) -> Bool {
    do {
      try await session.checkRoot(root)
      try await ProbeName.removeAbandoned(in: root, session: session)
      try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
        try await session.makeFolder(scratch)
        try await session.removeTree(scratch)
      }
    } catch {
      if error.sessionLost { throw error }
      failure = error.failure
      say("root", .bad, "\(error.failure.message). \(error.failure.hint)")
      return false
    }
    say("root", .good, "\(root) exists and \(user) may write there")
    return true
  }

  private mutating func sayPublishing() {
    switch session.findings.refusesToOverwrite {
    case true?: say("publish", .good, "a run is published by one rename of its folder, which replaces nothing")
    case false?:
      let refusal = WebDAVFindings.ignoresOverwrite(settings).failure
      failure = refusal
      say("publish", .bad, "\(refusal.message). \(refusal.hint)")
    case nil: say("publish", .limited, "whether the server refuses to overwrite could not be tried")
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

  private mutating func askSpace(_ root: RemotePath) async throws(TransportError) {
    freeSpace = session.capabilities.reportsFreeSpace ? try await session.freeSpace(at: root) : nil
    guard let freeSpace else { return say("free_space", .limited, "the NAS does not say how much is free") }
    let tenths = freeSpace / 100_000_000
    say("free_space", freeSpace < 1 << 30 ? .limited : .good, "\(tenths / 10).\(tenths % 10) GB are free")
  }
}
