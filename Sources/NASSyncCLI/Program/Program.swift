import Foundation
import Glibc
import NASSync

/// The program `nassync`.
public enum Program {
  /// Runs the command that the process was started with, and exits. Never returns: the main thread waits for signals meanwhile.
  public static func main() -> Never {
    openStandardStreams()
    // Before anything that may start a thread.
    let signals = SignalWatch()
    let environment = ProcessInfo.processInfo.environment
    Task.detached {
      let code = await run(
        words: { () throws(UsageError) in try Arguments.ofProcess() }, environment: environment,
        currentDirectory: FileManager.default.currentDirectoryPath, signals: signals)
      // Output is written unbuffered. `exit` would run the C libraries' clean-up beside threads that still use them.
      _exit(code.rawValue)
    }
    signals.run()
  }

  /// A stream that was closed by whoever started the program would be given to the next file that is opened: the queue, and what is meant
  /// for a terminal would be written into it.
  private static func openStandardStreams() {
    for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest free number is the one that is missing.
      _ = open("/dev/null", O_RDWR)
    }
  }

  private static func run(
    words: () throws(UsageError) -> [String], environment: [String: String], currentDirectory: String, signals: SignalWatch
  ) async -> ExitCode {
    var typed: [String] = []
    do throws(UsageError) {
      typed = try words()
      let parsed = try Arguments.parse(typed)
      let console = Console(options: parsed.options, environment: environment, currentDirectory: currentDirectory)
      let context = CommandContext(
        options: parsed.options, environment: environment, currentDirectory: currentDirectory, console: console, signals: signals)
      let code = await run(parsed.command, context)
      return await console.finish(code)
    } catch {
      // The options are not known, but whoever asked for JSON gets it.
      let options = GlobalOptions(json: typed.prefix { $0 != "--" }.contains("--json"))
      let console = Console(options: options, environment: environment, currentDirectory: currentDirectory)
      let failure = CommandFailure(error)
      await console.report(failure)
      return await console.finish(failure.exit)
    }
  }

  private static func run(_ command: Command, _ context: CommandContext) async -> ExitCode {
    do throws(CommandFailure) {
      return try await command.execute(in: context)
    } catch {
      await context.console.report(error)
      return error.exit
    }
  }
}

extension Command {
  /// Runs the command; the exit code is what it found, an error what it could not do.
  func execute(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    switch self {
    case .initialize(let directory): try await InitCommand(directory: directory).run(in: context)
    case .check(let equipment): try await CheckCommand(equipment: equipment).run(in: context)
    case .gate(let runs, let equipment): try await GateCommand(runs: runs, equipment: equipment).run(in: context)
    case .enqueue(let runs, let equipment, let priority):
      try await EnqueueCommand(runs: runs, equipment: equipment, priority: priority).run(in: context)
    case .drain: try await DrainCommand().run(in: context)
    case .serve: try await ServeCommand().run(in: context)
    case .status(let run, let watch, let limit): try await StatusCommand(run: run, watch: watch, limit: limit).run(in: context)
    case .verify(let selection, let localOnly): try await VerifyCommand(selection: selection, localOnly: localOnly).run(in: context)
    case .problems: try await ProblemsCommand().run(in: context)
    case .retry(let selection): try await RetryCommand(selection: selection).run(in: context)
    case .overrideAdd(let run, let problemClass, let reason, let path, let expires, let equipment):
      try await OverrideAddCommand(
        run: run, equipment: equipment, problemClass: problemClass, reason: reason, path: path, expires: expires
      ).run(in: context)
    case .overrideRevoke(let run, let id, let reason, let equipment):
      try await OverrideRevokeCommand(run: run, equipment: equipment, id: id, reason: reason).run(in: context)
    case .overrideList(let run, let equipment): try await OverrideListCommand(run: run, equipment: equipment).run(in: context)
    case .history(let run, let equipment): try await HistoryCommand(run: run, equipment: equipment).run(in: context)
    case .cleanup(let runs, let dryRun): try await CleanupCommand(runs: runs, dryRun: dryRun).run(in: context)
    case .recover(let runs, let equipment, let dryRun):
      try await RecoverCommand(runs: runs, equipment: equipment, dryRun: dryRun).run(in: context)
    case .restore(let run, let destination, let equipment):
      try await RestoreCommand(run: run, destination: destination, equipment: equipment).run(in: context)
    case .assetAdd(let files, let type, let service, let key, let mediaType):
      try await AssetAddCommand(files: files, type: type, service: service, key: key, mediaType: mediaType).run(in: context)
    case .assetRun(let numbers): try await AssetRunCommand(numbers: numbers).run(in: context)
    case .assetStatus(let number): try await AssetStatusCommand(number: number).run(in: context)
    case .assetList(let all): try await AssetListCommand(all: all).run(in: context)
    case .assetAbandon(let number): try await AssetAbandonCommand(number: number).run(in: context)
    case .assetCheck(let service): try await AssetCheckCommand(service: service).run(in: context)
    case .completion(let shell): await CompletionCommand(shell: shell).run(in: context)
    case .help(let text): await InformationCommand.help(text).run(in: context)
    case .version: await InformationCommand.version.run(in: context)
    }
  }
}
