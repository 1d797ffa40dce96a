import Intake
import JobQueue
import SyncModel
import Transport

/// Files that travel as a stream of pieces.
///
/// A file is read once, in order, and hashed in the same pass; whoever has room takes the next piece. One session writes it, and where the
/// destination can and the link asks for it others join: a single SSH connection is bound by its window over a long way, and by one core's
/// encryption over a short one. Between rounds sessions join or leave, and what was written until then is made durable and recorded while the
/// next round writes on: over a long way the line would be empty for two round trips each time.
extension ComponentSender {
  /// How long at most bytes are on the way before they are made durable and recorded, in nanoseconds.
  static let checkpointInterval: UInt64 = 1_000_000_000
  /// A round while it is being found out how many sessions are worth while.
  private static let tryingInterval: UInt64 = 250_000_000
  /// What is left of a file has to be worth a log-in.
  static let joinLimit: UInt64 = 4 << 20

  func sendLarge(_ row: ComponentRow, _ spare: SpareSessions) async throws(TransportError) {
    let entry = row.entry
    let size = entry.fingerprint.size
    let stream: FileStream
    do {
      stream = try await FileStream.open(entry, in: folder, on: readers.next())
      if isStaged(entry) {
        try await stream.skip(to: size)
        let digest = try await stream.finish()
        try await recorder.record(
          [ComponentProgress(path: entry.path, state: .sent, bytesDurable: size, localDigest: digest)], isFile: true)
        return
      }
    } catch { throw .failure(error, sessionLost: false) }
    try await pool.withSession(width: width) { (session) throws(TransportError) in
      let path = staging.appending(entry.path)
      let mark = resumePoint(row, capabilities: session.capabilities)
      var stream = stream
      do throws(SyncFailure) {
        // A session before this one was let in no more after some of it.
        if await stream.position > mark.bytes { stream = try await FileStream.open(entry, in: folder, on: readers.next()) }
        try await stream.skip(to: mark.bytes)
      } catch { throw .failure(error, sessionLost: false) }
      let handle = try await session.beginUpload(path, resumingAt: mark, size: size, modified: seconds(entry.fingerprint.modified))
      let lanes = UploadLanes(UploadLane(session, handle), growth: size >= EarlyDigests.followLimit ? follow(entry.path) : nil)
      let guests = LaneGuests()
      let sent: Result<Void, TransportError>
      do throws(TransportError) {
        let start = min(handle.offset ?? mark.bytes, size)
        if start != mark.bytes {
          do throws(SyncFailure) {
            // What lay there is gone: those bytes are read once more.
            if start < mark.bytes { stream = try await FileStream.open(entry, in: folder, on: readers.next()) }
            try await stream.skip(to: start)
          } catch { throw .failure(error, sessionLost: false) }
        }
        try await pump(row, stream, lanes, guests, spare)
        // One that comes too late is of no use any more.
        await guests.sendAway()
        let digest: ContentDigest
        do throws(SyncFailure) { digest = try await stream.finish() } catch { throw .failure(error, sessionLost: false) }
        try await lanes.checkpointed()
        // The time is set after the last byte of every session: it says that the file is whole.
        try await settle([lanes.main] + lanes.joined)
        lanes.isFlushing = true
        try await session.finishUpload(handle, modified: seconds(entry.fingerprint.modified), mode: nil, durable: true)
        lanes.growth?.isWhole(size)
        try await record(row, state: .sent, durable: size, digest: digest, isFile: true)
        sent = .success(())
      } catch {
        lanes.growth?.abandon()
        await guests.sendAway()
        await keep(row, await stream.position, lanes)
        await session.abandonUpload(handle)
        sent = .failure(error)
      }
      for lane in lanes.joined { await dismiss(lane, spare) }
      try sent.get()
    }
  }

  /// Where a file goes on: at what the queue knows to be durable. What lies behind that may have holes, where several sessions wrote, or be lost
  /// to a refused flush, which a disk tells only once. Where the driver gave a mark, it is the mark that counts.
  private func resumePoint(_ row: ComponentRow, capabilities: TransportCapabilities) -> UploadMark {
    let anew = UploadMark(bytes: 0)
    let size = row.entry.fingerprint.size
    guard capabilities.resumesFiles else { return anew }
    if let token = row.uploadToken { return UploadMark(bytes: min(row.bytesDurable, size), token: token) }
    // No durable byte on record: the staged file, if there is one, may be of an earlier state of the run.
    guard row.bytesDurable > 0 else { return anew }
    guard let found = staged[row.entry.path], found.kind == .file, found.size >= row.bytesDurable else { return anew }
    return UploadMark(bytes: min(row.bytesDurable, size))
  }

  // MARK: - Rounds

  private func pump(
    _ row: ComponentRow, _ stream: FileStream, _ lanes: UploadLanes, _ guests: LaneGuests, _ spare: SpareSessions
  ) async throws(TransportError) {
    let size = row.entry.fingerprint.size
    var lastCheckpoint = clock.monotonicNanoseconds
    var climb = LaneClimb(
      learned: lanes.main.session.capabilities.joinsUploads ? spare.learned : 1, isLong: pool.isFar, most: width)
    while await stream.position < size {
      try checkStop()
      for lane in guests.arrived() { lanes.add(lane) }
      if guests.isRefused, !climb.isOver { climb.settle(at: lanes.count) }
      let rest = size - min(await stream.position, size)
      // Where another file has the sessions for now, they are asked for again after the round.
      while !guests.isRefused, climb.wants > lanes.count + guests.expected, rest >= Self.joinLimit, spare.take() {
        invite(guests, lanes, row, spare)
      }
      if climb.wants < lanes.count, let last = lanes.joined.last {
        try await lanes.checkpointed()
        try await settle([last])
        lanes.remove(last)
        await dismiss(last, spare)
      }
      let began = clock.monotonicNanoseconds
      let before = await stream.position
      let isSettled = climb.isOver && guests.expected == 0
      try await round(row, stream, lanes, until: began + (isSettled ? Self.checkpointInterval : Self.tryingInterval))
      let now = clock.monotonicNanoseconds
      climb.learn(bytes: await stream.position - before, nanoseconds: now - began, lanes: lanes.count)
      if climb.isOver, climb.isLearned { spare.learned = climb.wants }
      if now - lastCheckpoint > Self.checkpointInterval, await stream.position < size {
        try await checkpoint(row, await stream.position, lanes)
        lastCheckpoint = now
      }
    }
  }

  /// Every session writes what comes next, until the time is over or the file is.
  private func round(
    _ row: ComponentRow, _ stream: FileStream, _ lanes: UploadLanes, until deadline: UInt64
  ) async throws(TransportError) {
    if lanes.count == 1 { return try await write(row, stream, lanes.main, until: deadline, halt: StopFlag()) }
    let halt = StopFlag()
    let all = [lanes.main] + lanes.joined
    let failed = await withTaskGroup(of: TransportError?.self) { group in
      for lane in all {
        group.addTask {
          do throws(TransportError) {
            try await write(row, stream, lane, until: deadline, halt: halt)
            return nil
          } catch {
            // The others stop before their next piece.
            halt.set()
            return error.ofAnotherSession
          }
        }
      }
      return await group.reduce(into: TransportError?.none) { $0 = $0 ?? $1 }
    }
    if let failed { throw lanes.main.isLost ? .failure(failed.failure, sessionLost: true) : failed }
  }

  private func write(
    _ row: ComponentRow, _ stream: FileStream, _ lane: UploadLane, until deadline: UInt64, halt: StopFlag
  ) async throws(TransportError) {
    let path = row.entry.path
    repeat {
      try checkStop()
      let count = max(1_024, min(await bandwidth.preferredPiece(for: equipment), Self.pieceSize))
      let piece: (offset: UInt64, bytes: [UInt8])
      do throws(SyncFailure) { piece = try await stream.piece(count) } catch { throw .failure(error, sessionLost: false) }
      guard !piece.bytes.isEmpty else { return }
      lane.took(piece.offset)
      do throws(TransportError) {
        try await awaitBandwidth(piece.bytes.count)
        try await lane.session.write(piece.bytes, at: piece.offset, to: lane.handle)
      } catch {
        if error.sessionLost { lane.lose() }
        throw error
      }
      lane.wrote()
      await recorder.moving(path, to: piece.offset + UInt64(piece.bytes.count))
    } while clock.monotonicNanoseconds < deadline && !halt.isSet
  }

  /// Has what has been sent made durable and recorded, while the sessions go on; waits for the checkpoint before.
  private func checkpoint(_ row: ComponentRow, _ position: UInt64, _ lanes: UploadLanes) async throws(TransportError) {
    // Where a file that was cut off is sent whole, no part of it is worth recording.
    guard lanes.main.session.capabilities.resumesFiles else { return }
    if let mark = try await lanes.main.session.mark(of: lanes.main.handle) {
      return try await record(row, state: .pending, durable: mark.bytes, digest: nil, isFile: true, token: mark.token)
    }
    try await lanes.checkpointed()
    let all = [lanes.main] + lanes.joined
    lanes.beginCheckpoint {
      lanes.isFlushing = true
      // Each session its own part, all at once: the answer comes behind what is on the way already, and that is long enough on a slow line.
      let failures = await withTaskGroup(of: FlushFailure?.self) { group in
        for lane in all { group.addTask { await durable(lane, isMain: lane === lanes.main) } }
        return await group.reduce(into: [FlushFailure]()) { found, one in if let one { found.append(one) } }
      }
      // A session of the others that is lost refuses nothing: what the rest has is asked for again. One refusal is enough to ask no more.
      if !failures.contains(where: \.stands) { lanes.isFlushing = false }
      if let failed = failures.first(where: \.stands) ?? failures.first { return .failure(failed.error) }
      do throws(TransportError) {
        lanes.growth?.reached(position)
        try await record(row, state: .pending, durable: position, digest: nil, isFile: true)
        return .success(())
      } catch {
        return .failure(error)
      }
    }
  }

  private struct FlushFailure: Sendable {
    let error: TransportError
    /// It may have been a disk that said no, which says so only once.
    let stands: Bool
  }

  /// - Returns: Why not.
  private func durable(_ lane: UploadLane, isMain: Bool) async -> FlushFailure? {
    do throws(TransportError) { try await lane.session.flush(lane.handle, durable: true) } catch {
      if isMain { return FlushFailure(error: error, stands: true) }
      if error.sessionLost { lane.lose() }
      return FlushFailure(error: error.ofAnotherSession, stands: !error.sessionLost)
    }
    lane.settledSince()
    return nil
  }

  /// Waits until all that these sessions wrote is acknowledged.
  private func settle(_ lanes: [UploadLane]) async throws(TransportError) {
    for lane in lanes {
      try await acknowledged(lane)
      lane.settled()
    }
  }

  private func acknowledged(_ lane: UploadLane) async throws(TransportError) {
    do throws(TransportError) { try await lane.session.flush(lane.handle, durable: false) } catch {
      if error.sessionLost { lane.lose() }
      throw error.ofAnotherSession
    }
  }

  // MARK: - Joining and leaving

  /// Has a session of the spare ones join, which may take a dozen round trips: meanwhile the others write on.
  private func invite(_ guests: LaneGuests, _ lanes: UploadLanes, _ row: ComponentRow, _ spare: SpareSessions) {
    guests.invite {
      do throws(TransportError) {
        let session = try await pool.acquire(width: width, isAlone: true)
        // A server that admits no more has the pool hand out one that is in use.
        guard !lanes.contains(session), guests.claim(session) else {
          await pool.release(session, broken: false)
          spare.give()
          return nil
        }
        do throws(TransportError) {
          return UploadLane(session, try await session.joinUpload(staging.appending(row.entry.path)))
        } catch {
          await pool.release(session, broken: error.sessionLost)
        }
      } catch {
        // The file has a session that works; what is wrong with another one is told when that is needed.
      }
      spare.give()
      return nil
    } dismiss: {
      await dismiss($0, spare)
    }
  }

  private func dismiss(_ lane: UploadLane, _ spare: SpareSessions) async {
    await lane.session.abandonUpload(lane.handle)
    await pool.release(lane.session, broken: lane.isLost)
    spare.give()
  }

  /// On the way out of a failure: what has been acknowledged is made durable and recorded, so that it is not sent again.
  private func keep(_ row: ComponentRow, _ position: UInt64, _ lanes: UploadLanes) async {
    guard lanes.main.session.capabilities.resumesFiles else { return }
    do throws(TransportError) { try await lanes.checkpointed() } catch {
      // The file has failed already, for this or for another reason.
    }
    // Where a flush was refused, the next would say yes, because a disk says only once that it could not take something: the last checkpoint stands.
    if lanes.isFlushing, !lanes.main.isLost { return }
    // In a task of its own: this one may be cancelled, and the progress is worth the last round trip.
    await Task.detached {
      var end = position
      var healthy: UploadLane?
      for lane in [lanes.main] + lanes.joined {
        do throws(TransportError) {
          if lane.isLost { throw .failure(Self.gone, sessionLost: true) }
          try await lane.session.flush(lane.handle, durable: false)
          healthy = healthy ?? lane
          end = min(end, lane.unwritten ?? position)
        } catch {
          if error.sessionLost { lane.lose() }
          end = min(end, lane.oldest ?? position)
        }
      }
      guard let healthy else { return }
      do {
        try await healthy.session.flush(healthy.handle, durable: true)
        if let mark = try await healthy.session.mark(of: healthy.handle) {
          try await record(row, state: .pending, durable: mark.bytes, digest: nil, isFile: true, token: mark.token)
        } else if let found = try await healthy.session.entry(at: staging.appending(row.entry.path)), found.kind == .file {
          try await record(row, state: .pending, durable: min(found.size, end), digest: nil, isFile: true)
        }
      } catch {
        // The last checkpoint stands; at most one interval of bytes is sent again.
      }
    }.value
  }

  private static let gone = SyncFailure(.network, "the connection is gone", hint: "It is opened again.")
}

extension TransportError {
  /// The same for a caller whose own session goes on.
  fileprivate var ofAnotherSession: TransportError { sessionLost ? .failure(failure, sessionLost: false) : self }
}
