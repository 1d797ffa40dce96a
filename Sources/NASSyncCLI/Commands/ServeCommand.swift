import Foundation
import NASSync

/// `serve`: drains for as long as the workstation runs, with a line a happening on standard error.
struct ServeCommand: Sendable {
  private struct Document: Encodable, Sendable {
    /// The signal that ended the service.
    let endedBy: String
  }

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let console = context.console
    let signals = context.signals.listen()
    let client = try await context.client()
    let log = ServiceLog(console: console)
    let events = client.events
    let logging = Task { await log.follow(events) }
    do throws(CommandFailure) { try await asking { () async throws(SyncFailure) in try await client.start() } } catch {
      await client.close()
      await logging.value
      throw error
    }
    let configuration = client.configuration
    await log.write(
      "serving \(displayText(configuration.stateDirectory)) with \(Quantities.count(configuration.equipment.count, "instrument"))",
      weight: .change)
    let signal = await waitForTheEnd(signals, client, context, log)
    await log.write("\(signal.name): stopping, the progress is being saved", weight: .change)
    await client.close()
    await logging.value
    context.signals.ignoreNoMore()
    await log.write("stopped", weight: .change)
    await console.document(Document(endedBy: signal.name))
    return .done
  }

  /// The signal to stop; SIGHUP is answered.
  private func waitForTheEnd(
    _ signals: AsyncStream<StopSignal>, _ client: NASSyncClient, _ context: CommandContext, _ log: ServiceLog
  ) async -> StopSignal {
    for await signal in signals {
      guard signal == .hangUp else { return signal }
      await reload(client, context, log)
    }
    return .terminate
  }

  /// Reads the configuration again, from the file that it came from. What is wrong with it is said, and the former one stays.
  private func reload(_ client: NASSyncClient, _ context: CommandContext, _ log: ServiceLog) async {
    do throws(CommandFailure) {
      let configuration = try await context.configuration(client.configuration.sourceFile)
      let changes = try await asking { () async throws(SyncFailure) in try await client.reload(configuration) }
      await log.write(
        "SIGHUP: configuration read again, \(changes.isEmpty ? "nothing has changed" : changes.map { displayText($0) }.joined(separator: "; "))",
        weight: .change)
    } catch {
      for line in error.lines { await log.write("SIGHUP: \(line)", weight: .trouble) }
      await log.write("SIGHUP: the configuration was not taken, the former one stays in force", weight: .trouble)
    }
  }
}

/// The log of the service: lines with a time stamp.
private struct ServiceLog: Sendable {
  let console: Console

  func write(_ line: String, weight: EventText.Weight) async {
    let stamped = "\(Moment.log(Date())) \(line)"
    if weight == .trouble { await console.complain([stamped]) } else { await console.note(stamped) }
  }

  /// Until the events end. Of progress, a line a job every half minute.
  func follow(_ events: AsyncStream<SyncEvent>) async {
    let clock = SystemClock()
    var spoken: [String: UInt64] = [:]
    for await event in events {
      let weight = EventText.weight(of: event)
      if weight == .progress, let job = Self.job(of: event) {
        let now = clock.monotonicNanoseconds
        guard let last = spoken[job] else {
          spoken[job] = now
          continue
        }
        guard now &- last >= 30_000_000_000 else { continue }
        spoken[job] = now
      } else if let job = Self.job(of: event) {
        spoken[job] = nil
      }
      await write(EventText.line(event, .whole), weight: weight)
    }
  }

  private static func job(of event: SyncEvent) -> String? {
    switch event {
    case .progress(let progress): progress.jobID
    case .verifying(let job, _, _, _), .stateChanged(let job, _, _, _), .failed(let job, _, _, _): job
    case .enqueued, .blocked, .outage, .recovered, .audited, .warning: nil
    }
  }
}
