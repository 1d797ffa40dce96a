import Foundation
import Glibc
import SyncModel
import Testing
import Transport

@Suite struct FolderPromises {
  @Test(arguments: ConformanceSubject.all) func makesFoldersUpToTheRoot(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await session.makeFolder(try running.path("a/b/c"))
      try await session.makeFolder(try running.path("a/b/c"))
      #expect(exists(running.local("a/b/c")))
      let other = try await running.driver.connect()
      try await other.makeFolder(try running.path("a/b/c"))
      await other.close()
    }
  }
}
