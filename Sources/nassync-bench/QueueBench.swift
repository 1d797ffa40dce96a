import Foundation
import Glibc
import JobQueue
import SQLite
import SyncModel

/// How a queue file of a million jobs and ten million components behaves: what a worker asks for each job, what a service asks every round, and
/// whole commands.
enum QueueBench {
  /// - Parameter made: A queue file of so many jobs that was copied while an earlier run measured; nil makes one.
  static func run(jobs: Int, made: String?) async throws {
    try await Measure.withFolder { folder in
      let state = "\(folder)/state"
      let file = "\(state)/queue.db"
      let clock = ContinuousClock()
      let began = clock.now
      if let made {
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: made, toPath: file)
      } else {
        await (try SyncQueue.open(stateDirectory: state, clock: BenchClock())).close()
        try QueueData(jobs: jobs).fill(file)
      }
      try report(file: file, jobs: jobs, seconds: Measure.seconds(clock.now - began))
      var all: [Timings] = []
      all += try await commands(folder, jobs: jobs)
      all += try await rounds(state, jobs: jobs)
      all += try await work(state)
      print(Timings.head)
      for timings in all { print(timings.line) }
      print(String(format: "peak memory of this process %.0f MB", Measure.peakMemory()))
      if !all.allSatisfy(\.holds) { throw Measure.Failure("what is aimed at is missed") }
    }
  }

  private static func report(file: String, jobs: Int, seconds: Double) throws {
    let size = try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int ?? 0
    let connection = try Connection(path: file, readOnly: true)
    let components = try connection.first("SELECT count(*) FROM component") { $0.integer(0) } ?? 0
    print(
      String(
        format: "%d jobs, %d components in %.2f GB, made in %.0f s, in %@", jobs, components, Double(size) / 1e9, seconds, Measure.base))
  }

  // MARK: - Whole processes

  private static func commands(_ folder: String, jobs: Int) async throws -> [Timings] {
    let program = (CommandLine.arguments[0] as NSString).deletingLastPathComponent + "/nassync"
    guard access(program, X_OK) == 0 else {
      throw Measure.Failure("\(program) is not there: `swift build -c release --product nassync` first")
    }
    let configuration = try writeConfiguration(folder)
    let run =
      "/data/lab/\(QueueData.instrument(jobs % QueueData.instruments))/" + String(format: "Project_%03d/Runs/Run_%07d", jobs % 997, jobs)
    var result: [Timings] = []
    for (words, goal, times) in [
      (["--version"], nil, 20), (["status"], 50.0, 20), (["status", run], 50, 20), (["problems"], nil, 5),
    ] as [([String], Double?, Int)] {
      var timings = Timings("`nassync \(words[0])\(words.count > 1 ? " RUN" : "")`, the whole process", goal: goal)
      for _ in 0..<times {
        let (output, seconds) = try Measure.run(program, ["--config", configuration] + words)
        guard !output.isEmpty else { throw Measure.Failure("nassync \(words) printed nothing") }
        timings.add(milliseconds: seconds * 1e3)
      }
      result.append(timings)
    }
    return result
  }

  private static func writeConfiguration(_ folder: String) throws -> String {
    try FileManager.default.createDirectory(atPath: "\(folder)/equipment", withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: "\(folder)/lab", withIntermediateDirectories: true)
    for number in 0..<QueueData.instruments {
      let id = QueueData.instrument(number)
      let text = """
        id: \(id)
        label: Microscope \(number)
        local_root: \(folder)/lab
        transport:
          type: sftp
          host: nas\(number % QueueData.destinations).lab.example
          port: 22
          user: lab
          key_file: ~/.ssh/id_ed25519
          remote_root: /srv/lab

        """
      try Data(text.utf8).write(to: URL(fileURLWithPath: "\(folder)/equipment/\(id).yaml"))
    }
    let path = "\(folder)/nassync.yaml"
    try Data("state_dir: \(folder)/state\nequipment_dir: \(folder)/equipment\n".utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  // MARK: - What a service asks every round

  private static func rounds(_ state: String, jobs: Int) async throws -> [Timings] {
    var opening = Timings("open and close the file")
    for _ in 0..<20 { try await opening.time { await (try SyncQueue.open(stateDirectory: state, clock: BenchClock())).close() } }
    let queue = try await SyncQueue.open(stateDirectory: state, clock: BenchClock())
    let places = (0..<QueueData.instruments).map { (QueueData.instrument($0), QueueData.destination($0)) }
    let allOut = Set(places.map(\.1))
    var idle = Timings("look for a due job while every destination is out", goal: 2)
    var due = Timings("whether anything is due, while every destination is out", goal: 2)
    var times = Timings("times too far ahead, destinations that are out", goal: 10)
    var audits = Timings("audits due, \(places.count) instruments", goal: 10)
    var reaper = Timings("candidates of a clean-up (once a minute)")
    var standings = Timings("where watched runs stand, after one change", goal: 10)
    for _ in 0..<20 {
      try await idle.time { _ = try await queue.claimNext(worker: "bench", excludingDestinations: allOut) }
      try await due.time { _ = try await queue.isAnythingDue(excludingDestinations: allOut) }
      try await times.time {
        _ = try await queue.forgetTimes(beyond: 86_400)
        _ = try await queue.outages()
      }
      try await audits.time {
        for (equipment, destination) in places {
          _ = try await queue.nextAudit(equipment: equipment, destination: destination, auditedBefore: QueueData.now - 86_400)
        }
      }
    }
    var sequence = try await queue.lastSequence()
    for _ in 0..<20 {
      try await queue.note(try await queue.job(number: Int64(jobs)), event: "warning", detail: "a change")
      try await standings.time { (sequence, _) = try await queue.news(since: sequence) }
    }
    for _ in 0..<5 {
      try await reaper.time {
        var last: Int64 = 0
        let before = QueueData.now - 86_400
        while let end = try await queue.ripeningJobs(after: last, minimumPasses: 2, before: before).last?.number { last = end }
        last = 0
        while let end = try await queue.removableJobs(after: last, notKeptFor: 900).last?.number { last = end }
      }
    }
    await queue.close()
    return [opening, idle, due, times, audits, reaper, standings]
  }

  // MARK: - What a worker asks for each job

  private static func work(_ state: String) async throws -> [Timings] {
    let queue = try await SyncQueue.open(stateDirectory: state, clock: BenchClock())
    var claims = Timings("claim", goal: 2)
    var sent = Timings("settle: sent", goal: 2)
    var proven = Timings("settle: proven, 10 components", goal: 2)
    var progress = Timings("progress of 10 components", goal: 2)
    for _ in 0..<500 {
      guard let job = try await claims.time({ try await queue.claimNext(worker: "bench") }) else { throw Measure.Failure("nothing is due") }
      let rows = try await queue.components(of: job)
      let digest = try ContentDigest.measured(job.number)
      try await progress.time {
        try await queue.checkpoint(
          job, worker: "bench",
          rows.map { ComponentProgress(path: $0.entry.path, state: .sent, bytesDurable: $0.entry.fingerprint.size, localDigest: digest) })
      }
      let waiting = try await sent.time { try await queue.transition(job, on: .sent, worker: "bench", detail: "sent") }
      var change = JobChange()
      change.releasesClaim = true
      change.verifiedAt = QueueData.now
      change.pass = VerificationPass(
        reading: BenchClock().reading, source: .publish, evidence: .server, files: rows.count, ledgerLength: 0)
      let whole = change
      try await proven.time {
        try await queue.transition(
          waiting, on: .proven, worker: "bench", change: whole,
          proofs: rows.map { ComponentProof(path: $0.entry.path, remoteDigest: digest, evidence: .server) }, detail: "proven")
      }
    }
    var few = Timings("register a run of 10 files", goal: 2)
    for number in 0..<200 {
      let draft = try QueueData.draft("Few_\(number)", instrument: number % QueueData.instruments)
      let entries = try QueueData.entries(10)
      try await few.time { _ = try await queue.register(draft, entries: entries) }
    }
    let many = try await RegisterBench.time(queue, files: 100_000, rounds: 5)
    var check = Timings("look for damage, as a worker does at its start")
    try await check.time { try await queue.checkForDamage() }
    await queue.close()
    return [claims, progress, sent, proven, few, many, check]
  }
}

extension ContentDigest {
  /// Some digest, another one for each number.
  fileprivate static func measured(_ number: Int64) throws -> ContentDigest {
    guard let digest = ContentDigest(bytes: Array(String(format: "%032ld", number).utf8)) else { throw Measure.Failure("no digest") }
    return digest
  }
}
