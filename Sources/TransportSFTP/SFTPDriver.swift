import Executors
import SyncModel
import Synchronization
import Transport

/// The SFTP destination of one equipment: opens sessions, finds a way to hash files there, and says what the server can do.
package final class SFTPDriver: TransportDriver {
  /// As given.
  package let settings: SFTPSettings
  private let connector: SSHConnector
  private let gate: HandshakeGate
  /// That there is no shell is asked once in the driver's life.
  private let hasNoShell = Atomic<Bool>(false)
  private let silences = Atomic<Int>(0)
  private static let mostSilences = 3

  /// - Parameter connector: Makes connections, on a thread of each session's own.
  package init(settings: SFTPSettings, connector: @escaping SSHConnector = BuiltinConnection.connector()) {
    self.settings = settings
    self.connector = connector
    gate = HandshakeGate(settings.handshakesAtOnce)
  }

  package var address: String { settings.address }

  /// The folder below which everything goes.
  package var root: RemotePath { RemotePath(root: settings.remoteRoot) }

  package func connect() async throws(TransportError) -> any TransportSession { try await session() }

  /// `connect()`, with what only SFTP knows.
  package func session() async throws(TransportError) -> SFTPSession {
    try await gate.enter()
    let interrupter = Interrupter()
    let client = SFTPClient(settings: settings, interrupter: interrupter)
    let opened: Result<SFTPSession, TransportError> = await withTaskCancellationHandler {
      do throws(TransportError) {
        try await client.open(connector)
        return .success(await SFTPSession(client))
      } catch {
        return .failure(error)
      }
    } onCancel: {
      interrupter.interrupt()
    }
    await gate.leave()
    return try opened.get()
  }

  package func makeHasher() async throws(TransportError) -> (any RemoteHasher)? {
    if hasNoShell.load(ordering: .relaxed) { return nil }
    let session = try await session()
    let found: Result<RemoteShellOutcome, TransportError>
    do throws(TransportError) { found = .success(try await findShell(session)) } catch { found = .failure(error) }
    await session.close()
    guard case .available(let shell, _) = try found.get() else { return nil }
    return shell
  }

  package func makeHasher(
    lending session: any TransportSession, expectingStream: Bool
  ) async throws(TransportError) -> (any RemoteHasher)? {
    if hasNoShell.load(ordering: .relaxed) { return nil }
    guard case .available(let shell, _) = try await findShell(session, expectingStream: expectingStream) else { return nil }
    return shell
  }

  package var hasherIsUndecided: Bool { !hasNoShell.load(ordering: .relaxed) }

  /// Looks for a shell that sees the root, by a file of random content that is removed again.
  /// - Parameter expectingStream: Has a second connection log in meanwhile, for a stream of files.
  /// - Throws: `sessionLost` speaks of the session that was given, not of the shell's own connection.
  private func findShell(
    _ session: any TransportSession, expectingStream: Bool = false
  ) async throws(TransportError) -> RemoteShellOutcome {
    try await session.makeFolder(root)
    try await ProbeName.removeAbandoned(in: root, session: session)
    return try await ProbeName.lend(in: root) { (file) throws(TransportError) in
      try await findShell(session, by: file, expectingStream: expectingStream)
    }
  }

  private func findShell(
    _ session: any TransportSession, by file: RemotePath, expectingStream: Bool
  ) async throws(TransportError) -> RemoteShellOutcome {
    let content = (0..<32).map { _ in UInt8.random(in: .min ... .max) }
    try await session.put(content, at: file, modified: nil, mode: nil, durable: false)
    let outcome: Result<RemoteShellOutcome, TransportError>
    do throws(TransportError) {
      try await gate.enter()
      do throws(TransportError) {
        outcome = .success(
          try await RemoteShell.open(
            settings: settings, connector: connector, probe: file, content: content, gate: gate, expectingCompanion: expectingStream))
      } catch {
        await gate.leave()
        throw error
      }
      await gate.leave()
    } catch {
      outcome = .failure(.failure(error.failure, sessionLost: false))
    }
    if case .success(.available(let shell, _)) = outcome, let own = session as? SFTPSession {
      let found = try? await own.client.attributes(at: file)  // without it nothing is unpacked, and what is wrong shows with the next call
      await shell.learn(fileMode: found?.permissions)
    }
    do throws(TransportError) { try await session.removeFile(file) } catch {
      // What kept the shell from being found says more than what followed from it.
      _ = try outcome.get()
      throw error
    }
    switch outcome {
    case .success(.unavailable(_, let isLasting)):
      // A busy NAS is asked again, but not for ever: each asking waits as long as a connection may be silent.
      let silences = isLasting ? Self.mostSilences : silences.wrappingAdd(1, ordering: .relaxed).newValue
      if silences >= Self.mostSilences { hasNoShell.store(true, ordering: .relaxed) }
    case .success(.available): silences.store(0, ordering: .relaxed)
    case .failure: break
    }
    return try outcome.get()
  }

  package func probe() async throws(TransportError) -> DestinationProbe {
    let session = try await session()
    let asked: Result<DestinationProbe, TransportError>
    do throws(TransportError) { asked = .success(try await ask(session)) } catch { asked = .failure(error) }
    await session.close()
    return try asked.get()
  }

  private func ask(_ session: SFTPSession) async throws(TransportError) -> DestinationProbe {
    var probe = SFTPProbe(settings: settings, session: session)
    var evidence = Evidence.readback
    if try await probe.askServer() {
      let outcome = try await findShell(session)
      probe.tell(outcome)
      if case .available(let shell, _) = outcome {
        evidence = shell.evidence
        await shell.close()
      }
    }
    return DestinationProbe(
      capabilities: probe.capabilities, evidence: evidence, freeSpace: probe.freeSpace, names: probe.names, lines: probe.lines,
      failure: probe.failure)
  }
}
