import Foundation
import Glibc
import TestSupport
import Testing

/// Everything that goes wrong has a kind, an exit code, and a sentence that says what to do.
@Suite(.serialized) struct ErrorTests {
  private func expectError(
    _ answer: Workstation.Answer, kind: String, exit: Int32, mentioning word: String = "", sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(answer.status == exit, "\(answer)", sourceLocation: sourceLocation)
    let error = answer.json["error"]
    #expect(error["kind"] == .string(kind), "\(answer)", sourceLocation: sourceLocation)
    #expect(error["message"].text?.isEmpty == false, sourceLocation: sourceLocation)
    #expect(error["hint"].text?.isEmpty == false, "\(answer)", sourceLocation: sourceLocation)
    #expect(error["retry"] == .bool(false), sourceLocation: sourceLocation)
    if !word.isEmpty { #expect(answer.text.contains(word), "\(answer)", sourceLocation: sourceLocation) }
    // A person reads the same on standard error.
    #expect(answer.errorText.hasPrefix("nassync: "), "\(answer)", sourceLocation: sourceLocation)
  }

  /// Enqueues a run, drains, and looks at what became of it.
  private func expectFailure(
    _ lab: Workstation, kind: String, drain exit: Int32, state: String, check: Int32?, attempts: Int? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let checked = try await lab.nassync("--json", "check", "--equipment", "CYTOMETER_01")
    if let check { #expect(checked.status == check, "\(checked)", sourceLocation: sourceLocation) }
    #expect(checked.status != 0 || check == 0, "\(checked)", sourceLocation: sourceLocation)
    let run = try lab.makeRun(files: ["data.fcs": noise(4 << 20, seed: 3)])
    #expect(try await lab.nassync("enqueue", run).status == 0, sourceLocation: sourceLocation)
    let drain = try await lab.nassync("drain")
    #expect(drain.status == exit, "\(drain)", sourceLocation: sourceLocation)
    let status = try await lab.nassync("--json", "status", run).json
    #expect(status["state"] == .string(state), "\(status)", sourceLocation: sourceLocation)
    let error = status["last_error"]
    #expect(error.keys == ["hint", "kind", "message", "retry"], sourceLocation: sourceLocation)
    #expect(error["kind"] == .string(kind), "\(status)", sourceLocation: sourceLocation)
    #expect(error["message"].text?.isEmpty == false, sourceLocation: sourceLocation)
    #expect(error["hint"].text?.isEmpty == false, "\(error)", sourceLocation: sourceLocation)
    #expect(error["retry"] == .bool(state == "queued"), sourceLocation: sourceLocation)
    if let attempts { #expect(status["attempts"] == .number(Double(attempts)), sourceLocation: sourceLocation) }
    if state == "queued" { #expect(status["next_attempt_at"].text != nil, sourceLocation: sourceLocation) }
    let problems = try await lab.nassync("--json", "problems").json.elements
    #expect(!problems.isEmpty, sourceLocation: sourceLocation)
    for problem in problems { #expect(problem["next_step"].text?.isEmpty == false, sourceLocation: sourceLocation) }
    #expect(try await lab.stagingFolders().isEmpty || state == "queued", sourceLocation: sourceLocation)
  }

  @Test func theWrongKey() async throws {
    try await LoopbackSSHD.with { server in
      let key = try await server.makeUserKey(.ed25519, name: "stranger", authorised: false)
      try await Workstation.with(server, Workstation.Setup(transport: ["key_file": key])) { lab in
        try await expectFailure(lab, kind: "auth", drain: 1, state: "failed", check: 1)
      }
    }
  }

  @Test func aKeyThatOthersMayRead() async throws {
    try await LoopbackSSHD.with { server in
      let key = try await server.makeUserKey(.ed25519, name: "open_key")
      #expect(chmod(key, 0o644) == 0)
      try await Workstation.with(server, Workstation.Setup(transport: ["key_file": key])) { lab in
        try await expectFailure(lab, kind: "misconfigured", drain: 1, state: "failed", check: 2)
        let text = try await lab.nassync("check").text
        #expect(text.contains("0600") || text.contains("600"), "\(text)")
      }
    }
  }

  @Test func anUnknownHostKey() async throws {
    try await LoopbackSSHD.with { server in
      let none = try server.writeKnownHosts([], name: "nobody")
      try await Workstation.with(server, Workstation.Setup(transport: ["known_hosts": none])) { lab in
        try await expectFailure(lab, kind: "host_key", drain: 1, state: "failed", check: 1)
      }
    }
  }

  @Test func aChangedHostKey() async throws {
    try await Workstation.with { lab in
      #expect(try await lab.nassync("check").status == 0)
      try await lab.server.restartWithOtherHostKeys()
      try await expectFailure(lab, kind: "host_key", drain: 1, state: "failed", check: 1)
    }
  }

  @Test func theWrongRemoteRoot() async throws {
    try await Workstation.with(.shell, Workstation.Setup(transport: ["remote_root": "/nonexistent/lab"])) { lab in
      try await expectFailure(lab, kind: "misconfigured", drain: 1, state: "failed", check: 2)
      #expect(!FileManager.default.fileExists(atPath: "/nonexistent"))
    }
  }

  @Test func aPortThatNobodyListensOn() async throws {
    let port = try freePort()
    try await LoopbackSSHD.with { server in
      let setup = Workstation.Setup(transport: ["port": "\(port)"])
      try await Workstation.with(server, setup) { lab in
        try await expectFailure(lab, kind: "network", drain: 75, state: "queued", check: 75, attempts: 0)
        let problem = try await lab.nassync("--json", "problems").json.elements.first {
          $0["problem_class"] == .string("destination_unreachable")
        }
        #expect(problem?["since"].text != nil)
        #expect(try await lab.nassync("drain").status == 75)
        // The NAS is back: the same run goes through.
        try lab.configure(Workstation.Setup())
        try await Task.sleep(for: .milliseconds(300))
        #expect(try await lab.nassync("drain").status == 0)
        try await lab.expectVerified(lab.lab + "/CYTOMETER_01/PROJ-0042/Runs/Run_2026-04-17T14-32")
      }
    }
  }

  @Test func aFolderThatMayNotBeWritten() async throws {
    try await Workstation.with(
      .sftpOnly, Workstation.Setup(backoff: "[1h]"), serverConfiguration: ["ForceCommand internal-sftp -R", "Subsystem sftp internal-sftp"]
    ) { lab in
      try await expectFailure(lab, kind: "permission", drain: 75, state: "queued", check: 1, attempts: 1)
    }
  }

  /// A file system of 1 MiB over the NAS's root, in a mount namespace that ends with the session: nothing is left mounted.
  @Test func aFullNAS() async throws {
    try await TemporaryFolder.with { folder in
      let script = "#!/bin/sh\nmount -t tmpfs -o size=1m none /mnt && exec /usr/lib/openssh/sftp-server\n"
      let program = try folder.write(script, to: "small-nas", mode: 0o755)
      let setup = Workstation.Setup(transport: ["remote_root": "/mnt", "connections": "1"], verifyMethod: "readback", backoff: "[1h]")
      try await Workstation.with(
        .shell, setup, serverConfiguration: ["Subsystem sftp /usr/bin/unshare -m \(program)"]
      ) { lab in
        try await expectFailure(lab, kind: "remote_full", drain: 75, state: "queued", check: 0, attempts: 1)
      }
    }
  }

  @Test func usage() async throws {
    try await Workstation.with { lab in
      expectError(try await lab.nassync("--json", "enqueue", lab.lab + "/CYTOMETER_01/P/Runs/Run_gone"), kind: "misconfigured", exit: 2)
      expectError(try await lab.nassync("--json", "status", "/tmp"), kind: "misconfigured", exit: 2)
      expectError(try await lab.nassync("--json", "gate", "/usr/share"), kind: "misconfigured", exit: 2)
      let run = try lab.makeRun()
      let stranger = try lab.makeRun("UNKNOWN_09")
      expectError(try await lab.nassync("--json", "enqueue", stranger), kind: "misconfigured", exit: 2)
      expectError(
        try await lab.nassync("--json", "enqueue", run, "--equipment", "NOBODY_01"), kind: "misconfigured", exit: 2, mentioning: "NOBODY_01"
      )
      expectError(try await lab.nassync("--json", "check", "--equipment", "NOBODY_01"), kind: "misconfigured", exit: 2)
      expectError(try await lab.nassync("--json", "enqeue", run), kind: "usage", exit: 2, mentioning: "enqueue")
      expectError(try await lab.nassync("--json"), kind: "usage", exit: 2)
      expectError(try await lab.nassync("--json", "drain", "--fast"), kind: "usage", exit: 2, mentioning: "--fast")
      // Several runs: the good one is done, the other has its error.
      let both = try await lab.nassync("--json", "enqueue", run, stranger)
      #expect(both.status == 2)
      #expect(both.json.elements.first?["state"] == .string("queued"))
      #expect(both.json.elements.last?["error"]["kind"] == .string("misconfigured"))
      #expect(both.json.elements.last?["run_path"] == .string(stranger))
      // Only a failed run can be retried.
      expectError(try await lab.nassync("--json", "retry", run), kind: "misconfigured", exit: 2)
      #expect(try await lab.nassync("drain").status == 0)
      expectError(try await lab.nassync("--json", "retry", run), kind: "misconfigured", exit: 2)
      #expect(try await lab.nassync("--json", "retry", "--all-failed").json == .array([]))
    }
  }

  @Test func configurationFilesThatAreWrong() async throws {
    try await Workstation.with { lab in
      let run = try lab.makeRun()
      let file = lab.folder.path + "/nassync.yaml"
      try lab.folder.write("state_dir: ./state\nretry: { backoff: [30s\nworkers: 2\n", to: "nassync.yaml")
      let broken = try await lab.nassync("--json", "check")
      expectError(broken, kind: "misconfigured", exit: 2)
      #expect(broken.json["error"]["problems"].elements.first?["line"].number != nil, "\(broken)")
      #expect(broken.errorText.contains("\(file):"), "\(broken)")

      try lab.folder.write("state_dir: ./state\n\nwokers: 2\n", to: "nassync.yaml")
      for command in ["check", "drain", "status"] {
        let unknown = try await lab.nassync("--json", command)
        expectError(unknown, kind: "misconfigured", exit: 2, mentioning: "wokers")
        #expect(unknown.errorText.contains("\(file):3"), "\(unknown)")
        #expect(unknown.text.contains("workers"), "\(unknown)")
      }
      try lab.configure(Workstation.Setup(transport: ["conections": "3"]))
      let equipment = try await lab.nassync("--json", "enqueue", run)
      expectError(equipment, kind: "misconfigured", exit: 2, mentioning: "conections")
      #expect(equipment.errorText.contains("equipment/CONFOCAL_01.yaml:"), "\(equipment)")

      let missing = try await lab.run([try Workstation.program(), "--json", "--config", "nowhere.yaml", "check"])
      expectError(missing, kind: "misconfigured", exit: 2, mentioning: "nowhere.yaml")
    }
  }
}
