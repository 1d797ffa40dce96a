import Foundation
import Glibc
import TestSupport
import Testing

/// The real program against web servers that mean it ill: it ends in time, stays small, and proves nothing.
@Suite(.serialized) struct HostileWebServerTests {
  private struct Enemy: Sendable {
    let name: String
    let traps: [HostileWebDAV.Trap]
  }

  private static let everything: Set<String> = ["PROPFIND", "MKCOL", "PUT", "GET", "MOVE", "DELETE"]

  /// Servers that do one thing to every request, and servers that are polite up to one step of a job and then lie.
  private static func enemies(thief: UInt16) -> [Enemy] {
    var enemies: [Enemy] = []
    func add(_ name: String, _ traps: HostileWebDAV.Trap...) { enemies.append(Enemy(name: name, traps: traps)) }
    for behaviour in HostileBehaviour.all + HostileBehaviour.redirections(thief: thief) {
      add(behaviour.name, HostileWebDAV.Trap(everything, behaviour.answer))
    }
    // What a listing can do where a run is looked for and where it is proven.
    for behaviour in HostileBehaviour.listings {
      add("in the staging folder: \(behaviour.name)", HostileWebDAV.Trap(["PROPFIND"], at: "/.nassync-", skippingProbes(behaviour.answer)))
    }
    add("PUT stores nothing", HostileWebDAV.Trap(["PUT"], at: "sub", plain("201 Created")))
    add("MOVE moves nothing", HostileWebDAV.Trap(["MOVE"], at: "/EQ_", plain("201 Created")))
    add("MKCOL makes nothing", HostileWebDAV.Trap(["MKCOL"], at: "sub", plain("201 Created")))
    add("GET gives other bytes", HostileWebDAV.Trap(["GET"], at: "data.bin", content { [UInt8](repeating: 1, count: $0) }))
    add("GET gives too little", HostileWebDAV.Trap(["GET"], at: "data.bin", content { [UInt8](repeating: 0, count: $0 / 2) }))
    add("GET gives nothing", HostileWebDAV.Trap(["GET"], at: "data.bin", content { _ in [] }))
    for behaviour in HostileBehaviour.framing {
      add("GET: \(behaviour.name)", HostileWebDAV.Trap(["GET"], at: "data.bin", behaviour.answer))
    }
    add("GET of the manifest gives another one", HostileWebDAV.Trap(["GET"], at: "checksums", content { _ in Array("0 *data.bin\n".utf8) }))
    return enemies
  }

  private static func plain(_ status: String) -> HostileWebDAV.Answer {
    { connection, request in
      guard HostileWebDAV.body(of: request, connection) != nil else { return }
      connection.send("HTTP/1.1 \(status)\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }
  }

  private static func content(_ bytes: @escaping @Sendable (Int) -> [UInt8]) -> HostileWebDAV.Answer {
    { connection, _ in
      let body = bytes(dataSize)
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\nConnection: close\r\n\r\n")
      connection.send(body)
    }
  }

  /// The probes' own folders are left alone: the job must come as far as to its own.
  private static func skippingProbes(_ answer: @escaping HostileWebDAV.Answer) -> HostileWebDAV.Answer {
    { connection, request in
      if request.target.contains("/.nassync-probe-") {
        connection.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
      } else {
        answer(connection, request)
      }
    }
  }

  private static let dataSize = 100_000
  private static let token = "end-to-end-t0ken"

  private func withServers(
    _ enemies: ArraySlice<Enemy>, _ started: [HostileWebDAV] = [], _ body: ([HostileWebDAV]) async throws -> Void
  ) async throws {
    guard let first = enemies.first else { return try await body(started) }
    try await HostileWebDAV.with(first.traps) { server in
      try await withServers(enemies.dropFirst(), started + [server], body)
    }
  }

  /// Kilobytes of the largest memory that a process had; nil once it is gone.
  private func peak(_ process: pid_t) -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),  // it may have ended
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") })
    else { return nil }
    return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Int($0) }.first
  }

  /// Ends within so many seconds, or is killed.
  private func peakUntilTheEnd(of child: ChildProcess, within seconds: Double) async throws -> (kilobytes: Int, seconds: Double) {
    let start = ContinuousClock.now
    var most = 0
    while child.isRunning {
      most = max(most, peak(child.id) ?? 0)
      if ContinuousClock.now - start > .seconds(seconds) {
        kill(child.id, SIGKILL)
        Issue.record("the program did not end within \(seconds) s")
        break
      }
      try await Task.sleep(for: .milliseconds(10))
    }
    let took = ContinuousClock.now - start
    return (most, took / .seconds(1))
  }

  private func configure(_ folder: TemporaryFolder, _ servers: [HostileWebDAV]) throws {
    try folder.write(
      "state_dir: ./state\nequipment_dir: ./equipment\nworkers: 16\nretry: { backoff: [1h] }\n", to: "nassync.yaml")
    try folder.write(Self.token, to: "token", mode: 0o600)
    for (number, server) in servers.enumerated() {
      let id = "EQ_\(number)"
      try folder.write(
        """
        id: \(id)
        local_root: \(folder.path)/lab
        transport:
          type: webdav
          url: http://127.0.0.1:\(server.port)\(HostileWebDAV.root)
          auth: bearer
          token: file:\(folder.path)/token
          insecure: true
          connect_timeout: 5s
          timeout: 1s

        """, to: "equipment/\(id).yaml")
      let run = "lab/\(id)/P/Runs/Run_1"
      try folder.write([UInt8](repeating: 0, count: Self.dataSize), to: "\(run)/data.bin")
      try folder.write([UInt8](repeating: 5, count: 10), to: "\(run)/sub/small.bin")
      try folder.write(Workstation.record, to: "\(run)/.exlab-wizard/creation.json")
    }
  }

  @Test func theProgramEndsStaysSmallAndProvesNothing() async throws {
    let program = try Workstation.program()
    try await RawHTTPServer.with({ connection in
      Issue.record("somebody came to where a redirection led: \(connection.readHead() ?? "")")
    }) { thief in
      let enemies = Self.enemies(thief: thief.port)
      try await withServers(enemies[...]) { servers in
        try await TemporaryFolder.with { folder in
          try configure(folder, servers)
          let words = [program, "--config", folder.path + "/nassync.yaml"]
          let environment = ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"]
          let runs = servers.indices.map { "\(folder.path)/lab/EQ_\($0)/P/Runs/Run_1" }
          #expect(try await runProcess(words + ["enqueue"] + runs, environment: environment).status == 0)
          let drain = try ChildProcess(
            words + ["drain"], environment: environment, directory: folder.path,
            streams: .init(output: folder.path + "/out", error: folder.path + "/err"))
          let (kilobytes, seconds) = try await peakUntilTheEnd(of: drain, within: 300)
          let status = await drain.exitStatus()
          print("hostile servers: \(enemies.count), drain ended with \(status) after \(seconds) s, at most \(kilobytes / 1024) MiB")
          #expect(kilobytes > 0 && kilobytes < 150 * 1024 * Patience.memory)
          #expect(status == 1 || status == 75)
          let answer = try await runProcess(words + ["--json", "status"], environment: environment)
          guard case .array(let statuses) = try JSONDecoder().decode(JSONValue.self, from: Data(answer.stdout)) else {
            throw TemporaryFolder.Failure("status is no list: \(answer.text)")
          }
          #expect(statuses.count == enemies.count)
          for status in statuses {
            let words = "\(status["run_path"].text ?? "?"): \(status)"
            // Each was tried, none is proven, and each says what it met.
            #expect(["failed", "queued", "awaiting_verify"].contains(status["state"].text), "\(words)")
            #expect(status["last_error"]["kind"].text != nil, "\(words)")
          }
          let found = try await runProcess(["grep", "-rlF", "--exclude=token", Self.token, folder.path])
          #expect(found.status == 1, "\(found.text)")
        }
      }
    }
  }
}
