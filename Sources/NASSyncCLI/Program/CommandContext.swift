import NASSync

/// What a command works with.
struct CommandContext: Sendable {
  let options: GlobalOptions
  let environment: [String: String]
  /// Absolute.
  let currentDirectory: String
  let console: Console
  let signals: SignalWatch

  /// Reads the configuration.
  /// - Parameter file: Nil takes what `--config` says, or the usual places.
  func configuration(_ file: String? = nil) async throws(CommandFailure) -> ServiceConfiguration {
    let (path, environment, currentDirectory) = (file ?? options.config, environment, currentDirectory)
    do {
      return try await console.blocking { () throws(ConfigurationError) in
        try ServiceConfiguration.load(from: path, environment: environment, currentDirectory: currentDirectory)
      }
    } catch { throw CommandFailure(error) }
  }

  /// Reads the configuration and makes a client of it. Nothing is opened or connected yet.
  func client() async throws(CommandFailure) -> NASSyncClient { NASSyncClient(configuration: try await configuration()) }

  /// Makes a client, lets the body use it, and closes it whatever happens.
  func withClient<Result: Sendable>(
    _ body: (NASSyncClient) async throws(CommandFailure) -> Result
  ) async throws(CommandFailure) -> Result {
    let client = try await client()
    do throws(CommandFailure) {
      let result = try await body(client)
      await client.close()
      return result
    } catch {
      await client.close()
      throw error
    }
  }
}

/// A call of the library, its error as the command line reports it.
func asking<Result: Sendable>(_ body: () async throws(SyncFailure) -> Result) async throws(CommandFailure) -> Result {
  do { return try await body() } catch { throw CommandFailure(error) }
}
