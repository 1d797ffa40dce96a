import NASSync

/// `--help` and `--version`.
enum InformationCommand: Sendable {
  case help(String)
  case version

  func run(in context: CommandContext) async -> ExitCode {
    switch self {
    case .help(let text):
      await context.console.show([text])
      await context.console.document(["help": text])
    case .version:
      await context.console.show(["nassync \(NASSyncClient.version)"])
      await context.console.document(["version": NASSyncClient.version])
    }
    return .done
  }
}
