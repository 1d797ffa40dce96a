import CLibCrypto
import SyncModel
import Transport

/// Finding out what the far side's shell is good for, once.
extension RemoteShell {
  enum Exploration: Sendable {
    case usable(RemoteShellFacts)
    case useless(String, isLasting: Bool = true)
  }

  func explore(_ probe: RemotePath, _ content: [UInt8], _ expectingCompanion: Bool = false) throws(TransportError) -> Exploration {
    guard let relative = probe.relative, let digest = RemoteShell.digest(of: content) else {
      return .useless("the probe file cannot be used")
    }
    // Over one channel from the first question on, where that is possible: each further one costs the far side the start of a shell.
    conversing = .untried
    let survey: ShellSurvey
    switch try surveyed() {
    case .failure(let reason): return .useless(reason.sentence, isLasting: reason.isLasting)
    case .success(let found): survey = found
    }
    guard survey.programs.contains("xargs") else { return .useless("the NAS has no program xargs") }
    let programs = HashProgram.allCases.filter { survey.programs.contains($0.programName) }
    guard !programs.isEmpty else {
      return .useless("the NAS has no program for SHA-256 (openssl, sha256sum, shasum or sha256)")
    }
    // FreeBSD's takes no arguments, and comes back before anything is written.
    hasSync = survey.programs.contains("sync") && survey.isLinux
    hasTar = survey.programs.contains("tar")
    // Not before this connection is there: a NAS may let no more than one in.
    if expectingCompanion, hasTar, hasSync { prepareCompanion() }
    var silent = false
    var place = try locate(survey.candidates(for: probe.root), relative, digest, programs, &silent)
    if place == nil, let listing = try ask(ShellSurvey.folders, input: [], silence: settings.progressTimeout) {
      place = try locate(ShellSurvey.candidates(for: probe.root, below: listing.lines), relative, digest, programs, &silent)
    }
    guard let place else {
      if silent { return .useless("the NAS's shell does not answer in time", isLasting: false) }
      return .useless("the NAS's shell does not see the folder \(displayText(settings.remoteRoot)), or cannot hash there")
    }
    sftpRoot = probe.root
    shellRoot = place.root
    program = place.program
    processors = survey.processors
    if programs.contains(.sha256sumZero), try locate([place.root], relative, digest, [.sha256sumZero], &silent) != nil {
      programForOddNames = .sha256sumZero
    }
    return .usable(
      RemoteShellFacts(
        shellRoot: place.root.isEmpty ? "/" : displayText(of: place.root), program: place.program.rawValue,
        hashesAnyName: programForOddNames != nil, canSync: hasSync, canUnpack: hasTar))
  }

  private struct Uselessness: Error {
    let sentence: String
    var isLasting = true
  }

  /// Asks the shell about its surroundings.
  ///
  /// Some servers drop the connection when they are asked for a command. That looks like a network failure, so it counts only when it happens
  /// twice, on connections that both logged in.
  private func surveyed() throws(TransportError) -> Result<ShellSurvey, Uselessness> {
    for attempt in 1...2 {
      try connect()
      do throws(RemoteCommand.Refusal) {
        let output = try collect(ShellSurvey.command, input: [], silence: settings.progressTimeout)
        guard let answer = RemoteShell.unframe(output) else {
          let words = displayText(of: output.prefix(120)).trimmed
          return .failure(Uselessness(sentence: words.isEmpty ? "the NAS runs no commands" : "the NAS answers a command with “\(words)”"))
        }
        return .success(ShellSurvey(answer.lines))
      } catch {
        let wasLoggedIn = connection?.isLoggedIn ?? false
        drop()
        switch error {
        case .denied:
          return .failure(Uselessness(sentence: "the NAS does not allow the user \(displayText(settings.user)) to run commands"))
        case .silent: return .failure(Uselessness(sentence: "the NAS does not answer a command", isLasting: false))
        case .failed(let error):
          guard error.failure.kind == .network, wasLoggedIn else { throw error }
          if attempt == 2 { return .failure(Uselessness(sentence: "the NAS ends the connection when it is asked to run a command")) }
        }
      }
    }
    return .failure(Uselessness(sentence: "the NAS runs no commands"))
  }

  /// The first folder, and a program, in which the probe file has the digest it must have.
  /// - Parameter silent: Set where a program did not answer in time, which says nothing about the next time.
  private func locate(
    _ roots: [[UInt8]], _ relative: RelativePath, _ digest: ContentDigest, _ programs: [HashProgram], _ silent: inout Bool
  ) throws(TransportError) -> (root: [UInt8], program: HashProgram)? {
    for program in programs {
      let fitting = roots.filter { program.prints($0) && program.prints(relative.bytes) }
      guard !fitting.isEmpty else { continue }
      do throws(RemoteCommand.Refusal) {
        let answer = try tryHashing(fitting.count, with: program, silence: settings.progressTimeout) { index in
          fitting[index] + [UInt8(ascii: "/")] + relative.bytes
        }
        if let index = answer.digests.firstIndex(of: digest) { return (fitting[index], program) }
      } catch {
        drop()
        if case .silent = error { silent = true }
        // A program that does not work here, or not as expected, is passed over; a broken network is not.
        if case .failed(let error) = error, error.failure.kind != .protocol { throw error }
      }
    }
    return nil
  }

  private static func digest(of content: [UInt8]) -> ContentDigest? {
    var bytes = [UInt8](repeating: 0, count: 32)
    guard EVP_Digest(content, content.count, &bytes, nil, EVP_sha256(), nil) == 1 else { return nil }
    return ContentDigest(bytes: bytes)
  }
}

extension String {
  /// Without spaces at both ends.
  fileprivate var trimmed: String {
    String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }
}
