import SyncModel

/// Every command and option of the program, said once.
enum CommandTable {
  /// Options that every command takes, before or after its name.
  static let globalOptions: [OptionSpec] = [
    OptionSpec(.config, ("FILE", .file), "the configuration; else $NASSYNC_CONFIG, ./nassync.yaml, the user's, /etc/nassync/nassync.yaml"),
    OptionSpec(.json, "one JSON document on standard output, and nothing else there"),
    OptionSpec(.quiet, "no progress and no remarks; errors only"),
    OptionSpec(.help, "what the program, or the command, does"),
    OptionSpec(.version, "the program's version"),
  ]

  /// Groups of commands, with a line for the list.
  static let groups: [(word: String, summary: String)] = [
    ("override", "let one class of finding pass the gate, on the record"),
    ("asset", "files that go to a service as one asset, by presigned URLs"),
  ]

  /// Classes of findings that an override can let through, for completion. External validators may bring more.
  static let overridableClasses: [FindingClass] = [
    .unresolvedPlaceholderToken, .leftoverJinjaMarker, .illegalFilesystemCharacter, .reservedFilesystemName, .modePrefixMismatch,
    .pathTooLong, .caseCollision, .normalizationCollision, .symlinkEscapesRun,
  ]

  static let commands: [CommandSpec] = CommandName.allCases.map(spec(of:))

  static func spec(of name: CommandName) -> CommandSpec {
    switch name {
    case .initialize:
      CommandSpec(
        name, usage: "[DIR]", "write a commented configuration to start from",
        details: "Writes nassync.yaml and an example equipment profile into DIR (the current folder). Nothing that exists is overwritten.",
        operands: [.optional("DIR", .folder)])
    case .check:
      CommandSpec(
        name, usage: "[--equipment ID]", "validate the configuration and ask the NAS what it can do",
        details: "Connects to every destination, or to that of one equipment, and says what will work and what a person must mend.",
        options: [equipment("only this instrument")], exitCodes: [(.tryAgainLater, "the NAS does not answer")])
    case .gate:
      CommandSpec(
        name, usage: "RUN… [--equipment ID]", "look whether runs may be sent; nothing is written",
        details: "Applies the Pre-Sync Gate to each run and lists the findings: hard ones block, soft ones inform.",
        operands: [.several("RUN", .folder)], options: [equipment("the instrument, where the path does not say")],
        exitCodes: [(.blocked, "at least one run is blocked")])
    case .enqueue:
      CommandSpec(
        name, usage: "RUN… [--equipment ID] [--priority N]", "gate, then queue",
        details: "Each run goes through the gate and, if nothing hard is found, into the queue. `drain` or `serve` sends it.",
        operands: [.several("RUN", .folder)],
        options: [
          equipment("the instrument, where the path does not say"),
          OptionSpec(.priority, ("N", .text), "higher goes first; 0 unless said, negative waits"),
        ], exitCodes: [(.blocked, "at least one run is blocked and was not queued")])
    case .drain:
      CommandSpec(
        name, usage: "", "send, prove and publish what is queued, then exit",
        details:
          "Works until nothing is due. Beside a running service it shows that service's progress instead. Interrupted at any moment, it goes "
          + "on where it was when started again.",
        exitCodes: [
          (.blocked, "the gate blocks something"), (.tryAgainLater, "something waits for a later try, or the drain was interrupted"),
        ])
    case .serve:
      CommandSpec(
        name, usage: "", "take up finished runs and drain, for as long as the workstation runs",
        details:
          "Enqueues runs when their instrument has finished them (`completeness` in its file), sends what is queued, and keeps doing so. SIGTERM "
          + "ends it within seconds without losing progress; SIGHUP reads the configuration again.")
    case .status:
      CommandSpec(
        name, usage: "[RUN] [--watch] [--all | --limit N]", "the queue, or where one run stands",
        details:
          "A run that was never queued has the state `none`. Of a queue of more than \(StatusCommand.usualLimit) runs those are listed that are on "
          + "their way, failed or wait, then the last that are done; how many there are of each is said below. With --json all are, unless limited.",
        operands: [.optional("RUN", .folder)],
        options: [
          OptionSpec(.watch, "keep showing it until interrupted; with --json the last state is printed then"),
          OptionSpec(.all, "list every run, however many"),
          OptionSpec(.limit, ("N", .text), "list so many runs at most"),
        ])
    case .verify:
      CommandSpec(
        name, usage: "RUN… | --all  [--local-only]", "compare manifest, workstation and NAS, file by file",
        details: "Names every file that is missing, additional or different. Never changes a run's state.",
        operands: [.several("RUN", .folder, minimum: 0)],
        options: [
          OptionSpec(.all, "every run that was published"),
          OptionSpec(.localOnly, "do not ask the NAS"),
        ], exitCodes: [(.mismatch, "something differs")])
    case .problems:
      CommandSpec(
        name, usage: "", "everything that wants a person, with the next step",
        details: "Failed and blocked runs, runs that never finish, destinations that do not answer, a queue without a service, and what to "
          + "do about each.")
    case .retry:
      CommandSpec(
        name, usage: "RUN… | --all-failed", "put failed runs back into the queue",
        details: "Only a run whose state is `failed` can be retried; any other state is an error.",
        operands: [.several("RUN", .folder, minimum: 0)], options: [OptionSpec(.allFailed, "every run that failed")])
    case .overrideAdd:
      CommandSpec(
        name, usage: "RUN --class C --reason R [--path P] [--expires T] [--equipment ID]", "let one class of finding pass in one run",
        details: "Appends an override to the run's record, with your name and the time. T is a date (2026-12-31), a moment "
          + "(2026-12-31T18:00Z) or a span from now (12h, 30d, 8w).",
        operands: [.one("RUN", .folder)],
        options: [
          OptionSpec(
            .problemClass, ("C", .choice(overridableClasses.map(\.rawValue))), required: true, "the finding's class, as `gate` names it"),
          OptionSpec(.reason, ("R", .text), required: true, "why, for whoever reads the record later"),
          OptionSpec(.path, ("P", .text), "only for this path inside the run"),
          OptionSpec(.expires, ("T", .text), "until then; for ever unless said"),
          equipment("the instrument, where the path does not say"),
        ])
    case .overrideRevoke:
      CommandSpec(
        name, usage: "RUN ID --reason R [--equipment ID]", "take an override back",
        details: "Appends a revocation to the run's record; the override stays there to be read.",
        operands: [.one("RUN", .folder), .one("ID", .text)],
        options: [
          OptionSpec(.reason, ("R", .text), required: true, "why, for whoever reads the record later"),
          equipment("the instrument, where the path does not say"),
        ])
    case .overrideList:
      CommandSpec(
        name, usage: "RUN [--equipment ID]", "the overrides of a run, also past ones",
        details: "Shows each with its id, whether it is in force, and why not.",
        operands: [.one("RUN", .folder)], options: [equipment("the instrument, where the path does not say")])
    case .cleanup:
      CommandSpec(
        name, usage: "[RUN…] [--dry-run]", "remove local copies whose NAS copy is proven",
        details:
          "Removes the local copy of each run for which every condition is met at this moment, and shows those that are not. Without RUN it "
          + "takes all runs that may be due, and needs cleanup.enabled. With --dry-run nothing is written.",
        operands: [.several("RUN", .folder, minimum: 0)],
        options: [OptionSpec(.dryRun, "show every condition and the bytes; ends with 0 whatever they are")],
        exitCodes: [
          (.blocked, "the gate, the record or a revoked override keeps a run"), (.mismatch, "the NAS copy differs"),
          (.tryAgainLater, "too early, the NAS does not answer, or another process cleans"),
        ])
    case .history:
      CommandSpec(
        name, usage: "RUN [--equipment ID]", "everything that happened to a run, in order",
        details: "Every transition, attempt, verification and override; last, whether the ledger of overrides is as it was written.",
        operands: [.one("RUN", .folder)], options: [equipment("the instrument, where the path does not say")],
        exitCodes: [(.mismatch, "the ledger of overrides is not as it was written")])
    case .restore:
      CommandSpec(
        name, usage: "RUN DEST [--equipment ID]", "bring a run back from the NAS and prove it",
        details:
          "RUN is a path of this workstation, whether the run is still there or not, or EQUIPMENT:PATH, a folder below that equipment's "
          + "remote_root. DEST becomes the run's root: it does not exist yet, or is empty, or is the run's own folder, where what is missing is "
          + "added. Nothing is overwritten. Interrupted at any moment, the same command goes on.",
        operands: [.one("RUN", .folder), .one("DEST", .folder)],
        options: [equipment("the instrument, where the path does not say")],
        exitCodes: [
          (.mismatch, "something on the NAS is not what its manifest says; the rest was restored"),
          (.tryAgainLater, "the NAS does not answer, or the restore was interrupted"),
        ])
    case .recover:
      CommandSpec(
        name, usage: "[RUN…] [--equipment ID] [--dry-run]", "rebuild a lost or damaged queue from the runs and the NAS",
        details:
          "Moves a damaged queue file aside, and finds every run of the usual layout, here and on the NAS, that the queue does not know: what is "
          + "published is proven again, what had been enqueued is enqueued. With RUN, only those. The service must not run meanwhile.",
        operands: [.several("RUN", .folder, minimum: 0)],
        options: [
          equipment("only this instrument; or, with RUN, the instrument where the path does not say"),
          OptionSpec(.dryRun, "look, and write nothing"),
        ],
        exitCodes: [
          (.mismatch, "the NAS does not hold what a run's manifest says"), (.blocked, "the gate keeps a run that had been enqueued"),
          (.tryAgainLater, "a NAS does not answer: what it alone knows is missing still"),
        ])
    case .assetAdd:
      CommandSpec(
        name, usage: "FILE… --type T [--service NAME] [--key K] [--media-type M]", "record files as one asset to be sent",
        details:
          "A file becomes a component of its own name, a folder one component for each file in it, named by its path there. Nothing is sent yet: "
          + "`asset run` does. The same command again means the same asset, unless its files have changed since it was finished.",
        operands: [.several("FILE", .file)],
        options: [
          OptionSpec(.type, ("T", .text), required: true, "what kind of asset it is for the service, such as checkpoint"),
          OptionSpec(.service, ("NAME", .text), "one of asset_services; needed where there are several"),
          OptionSpec(.key, ("K", .text), "tells apart assets of the same files"),
          OptionSpec(.mediaType, ("M", .text), "media type of the files; application/octet-stream unless said"),
        ])
    case .assetRun:
      CommandSpec(
        name, usage: "[NUMBER…]", "send what is recorded, and have the service finish it",
        details:
          "Without NUMBER it takes all assets that are not finished. A component that the store has confirmed is not sent again, and the service "
          + "is asked to finish an asset only once all are there and no file has changed. Interrupted at any moment, it goes on where it was when "
          + "started again. No local file is ever removed.",
        operands: [.several("NUMBER", .text, minimum: 0)],
        exitCodes: [(.tryAgainLater, "something waits for a later try, or the command was interrupted")])
    case .assetStatus:
      CommandSpec(
        name, usage: "NUMBER", "where one asset stands, and what vouches for each of its files",
        details: "NUMBER is what `asset add` printed. Shows the SHA-256 of what was sent of each file, and the evidence.",
        operands: [.one("NUMBER", .text)])
    case .assetList:
      CommandSpec(
        name, usage: "[--all]", "the assets that are not finished", details: "Oldest first, with what stopped the last attempt.",
        options: [OptionSpec(.all, "also those that are finished or given up")])
    case .assetAbandon:
      CommandSpec(
        name, usage: "NUMBER", "give an unfinished asset up",
        details:
          "Only on this side: the service is not told, and no file is removed. `asset add` with the same files makes a new asset then.",
        operands: [.one("NUMBER", .text)])
    case .assetCheck:
      CommandSpec(
        name, usage: "[--service NAME]", "ask the asset services whether they answer and take the token",
        details: "Nothing is changed there. Stores are not asked: what leads to them are the URLs of an asset.",
        options: [OptionSpec(.service, ("NAME", .text), "only this one of asset_services")],
        exitCodes: [(.tryAgainLater, "a service does not answer")])
    case .completion:
      CommandSpec(
        name, usage: "bash|zsh|fish", "a script that completes commands in your shell",
        details: "For this session: source <(nassync completion bash)",
        operands: [.one("SHELL", .choice(CompletionShell.allCases.map(\.rawValue)))])
    }
  }

  private static func equipment(_ summary: String) -> OptionSpec { OptionSpec(.equipment, ("ID", .text), summary) }

  /// The option by that name, as any command describes it.
  static func anyOption(_ name: OptionName) -> OptionSpec? { allOptions.first { $0.name == name } }

  /// Every option once.
  static let allOptions: [OptionSpec] = {
    var seen: Set<OptionName> = []
    return (globalOptions + commands.flatMap(\.options)).filter { seen.insert($0.name).inserted }
  }()
}
