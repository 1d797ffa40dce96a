import NASSync

/// `enqueue RUN… [--equipment ID] [--priority N]`: gate, then queue.
struct EnqueueCommand: Sendable {
  let runs: [String]
  let equipment: String?
  let priority: Int

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let client = try await context.client()
    // What the client remarks while it works, a record that could not be marked for instance.
    let events = client.events
    let remarks = Task {
      for await event in events {
        if case .warning = event { await context.console.complain([EventText.line(event, context.console.names)]) }
      }
    }
    let code = await RunBatch(runs: runs).run(context.console) { (run) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.enqueue(run, equipment: equipment, priority: priority) }
    } show: { handle in
      let lines = Self.lines(handle, context.console.names, config: context.options.config, equipment: equipment)
      if handle.state == .blocked { await context.console.show(lines) } else { await context.console.say(lines) }
      return handle.state == .blocked ? .blocked : .done
    }
    await client.close()
    await remarks.value
    return code
  }

  static func lines(_ handle: SyncJobHandle, _ names: RunNames, config: String?, equipment: String? = nil) -> [String] {
    let run = names.shown(handle.runPath)
    switch handle.state {
    case .blocked:
      return ["BLOCKED: \(run)"] + FindingText.lines(handle.blockingFindings)
        + FindingText.nextSteps(handle.blockingFindings, run: names.short(handle.runPath), config: config, equipment: equipment)
    case .queued where handle.unchanged:
      return ["unchanged: \(run) is \(handle.jobState?.rawValue ?? "queued") already (job \(handle.jobID))"]
    case .queued: return ["queued: \(run) (job \(handle.jobID))"]
    }
  }
}
