/// `completion bash|zsh|fish`: a script for the shell.
struct CompletionCommand: Sendable {
  let shell: CompletionShell

  private struct Answer: Encodable, Sendable {
    let shell: String
    let script: String
  }

  func run(in context: CommandContext) async -> ExitCode {
    let script = CompletionScript.text(for: shell)
    if context.options.json {
      await context.console.document(Answer(shell: shell.rawValue, script: script))
    } else {
      await context.console.raw(script)
    }
    return .done
  }
}
