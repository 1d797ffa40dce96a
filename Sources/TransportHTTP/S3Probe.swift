import SyncModel
import Transport

/// What `nassync check` asks of an object store, one line a question. Everything it makes is a probe object, which it removes.
struct S3Probe {
  let settings: S3Settings
  let session: S3Session
  private var lines: [DestinationProbe.Line] = []
  private var failure: SyncFailure?
  private var names: DestinationNames?

  init(settings: S3Settings, session: S3Session) {
    self.settings = settings
    self.session = session
  }

  private mutating func say(_ name: String, _ grade: DestinationProbe.Line.Grade, _ detail: String) {
    lines.append(DestinationProbe.Line(name: name, grade: grade, detail: detail))
  }

  mutating func ask() async throws(TransportError) -> DestinationProbe {
    let origin = settings.client.origin
    say("server", .good, "\(origin) is \(session.capabilities.server)")
    lines.append(settings.http.encryptionLine)
    say("login", .good, "the signature is accepted for the region \(displayText(settings.region))")
    var evidence = Evidence.readback
    if try await askRoot() {
      if session.findings.refusesWrongHash == true { evidence = .store }
      sayFindings()
      try await askMultipart()
      try await askVersioning()
      sayUploads()
      try await askNames()
      say("symlinks", .limited, "object stores know no symbolic links")
      say("times", .limited, "the store sets times of its own; those of files are kept beside them (mtime), as rclone does")
      say("fsync", .limited, "the store does not say when an object is on its disks; what it acknowledges it holds")
      say("free_space", .limited, "the store does not say how much is free")
      switch evidence {
      case .store:
        say(
          "evidence", .good, "the store compares each file's SHA-256 while it writes (store); files in parts are read back and hashed here")
      default: say("evidence", .limited, "files are read back and hashed here (readback)")
      }
    }
    return DestinationProbe(
      capabilities: session.capabilities, evidence: evidence, freeSpace: nil, names: names, lines: lines, failure: failure)
  }

  private mutating func askRoot() async throws(TransportError) -> Bool {
    let root = RemotePath(root: settings.root)
    do throws(TransportError) {
      try await session.checkRoot(root)
      try await ProbeName.removeAbandoned(in: root, session: session)
      try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
        try await session.put([1], at: scratch, modified: nil, mode: nil, durable: false)
        try await session.removeFile(scratch)
      }
    } catch {
      if error.sessionLost { throw error }
      failure = error.failure
      say("root", .bad, "\(error.failure.message). \(error.failure.hint)")
      return false
    }
    say("root", .good, "the bucket \(displayText(settings.bucket)) exists, and objects can be written, listed and removed there")
    return true
  }

  private mutating func sayFindings() {
    switch session.findings.refusesWrongHash {
    case true?: say("content_hash", .good, "bytes that are not the ones that were signed are refused")
    case false?: say("content_hash", .limited, "the store keeps bytes that are not the ones that were signed")
    case nil: say("content_hash", .limited, "whether wrong bytes are refused could not be tried")
    }
    switch session.findings.honoursIfNoneMatch {
    case true?: say("publish", .good, "an object that exists is not replaced by one that must be new (If-None-Match)")
    case false?:
      say("publish", .limited, "the store does not know If-None-Match: this program looks before and after, which leaves a moment between")
    case nil: say("publish", .limited, "whether the store refuses to overwrite could not be tried")
    }
  }

  /// Two parts of one byte: a store that knows parts refuses them for their size, or puts them together.
  private mutating func askMultipart() async throws(TransportError) {
    do throws(TransportError) {
      try await ProbeName.lend(in: RemotePath(root: settings.root)) { (path) throws(TransportError) in try await askMultipart(path) }
    } catch {
      if error.sessionLost { throw error }
      say("resume", .bad, "large files cannot be sent in parts: \(error.failure.message)")
    }
  }

  private mutating func askMultipart(_ path: RemotePath) async throws(TransportError) {
    let key = try session.key(path)
    let upload = try await session.createUpload(key, path, modified: nil)
    var body = "<CompleteMultipartUpload>"
    for number in 1...2 {
      let etag = try await session.putPart(number, [UInt8(number)], of: upload, key, path)
      body += "<Part><PartNumber>\(number)</PartNumber><ETag>\"\(S3Document.escaped(Array(etag.utf8)) ?? "")\"</ETag></Part>"
    }
    body += "</CompleteMultipartUpload>"
    let answer = try await session.ask("POST", key, query: [("uploadId", Array(upload.utf8))], body: Array(body.utf8), patience: 10)
    let code = S3Failures.refusal(answer).code
    try await session.abortUpload(key, upload, path)
    try await session.delete(key, path)
    let least = code == "EntityTooSmall" ? "; parts of a few bytes are refused" : ""
    let limit = S3Parts.limit(largest: UInt64(settings.buffers.largestPart))
    say(
      "resume", .good,
      "large files go in parts, up to \(limit), and one that was cut off goes on after the last part\(least)")
  }

  private mutating func askVersioning() async throws(TransportError) {
    let answer = try await session.ask("GET", [], query: [("versioning", [])])
    guard answer.isSuccess, let root = try? S3Document.read(answer.body) else { return }  // no answer is no line
    guard root.text("Status") == "Enabled" else { return }
    say("versioning", .limited, "the bucket keeps old versions: what is removed or replaced still takes room there")
  }

  /// What cannot be found out is a limitation: the gate is careful then.
  private mutating func askNames() async throws(TransportError) {
    do {
      names = try await session.examineNames(in: RemotePath(root: settings.root))
      lines += names?.lines ?? []
    } catch {
      if error.sessionLost { throw error }
      say("names", .limited, "what becomes of names could not be found out, so the careful assumptions hold: \(error.failure.message)")
    }
  }

  private mutating func sayUploads() {
    let findings = session.findings
    if let hidden = findings.uploadsHidden {
      return say(
        "uploads", .limited,
        "\(hidden): what interrupted uploads leave behind takes room there until a lifecycle rule of the bucket ends them")
    }
    guard let open = findings.openUploads else { return }
    let ended = findings.endedUploads == 0 ? "" : "; \(findings.endedUploads) old ones were ended"
    say("uploads", .good, "\(open) interrupted \(open == 1 ? "upload lies" : "uploads lie") below the prefix\(ended)")
  }
}
