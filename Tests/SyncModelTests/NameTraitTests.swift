import Foundation
import SyncModel
import Testing

@Suite struct NameTraitTests {
  @Test func everyTraitIsInItsOwnSamples() {
    for trait in NameTrait.asked {
      #expect(trait.samples(stem: "n1").allSatisfy { trait.applies(to: $0[...]) }, "\(trait)")
      #expect(!trait.applies(to: Array("plain".utf8)[...]), "\(trait)")
    }
    let names = NameTrait.asked.enumerated().flatMap { $1.samples(stem: "n\($0)") }
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { !$0.contains(0) && !$0.contains(0x2f) && $0.count < 32 })
  }

  /// What a server would read, rather than keep, must not even be tried.
  @Test func noSampleIsANameThatAWebServerReads() {
    let read = WithheldName(".htaccess", reason: "")
    for (number, trait) in NameTrait.asked.enumerated() {
      #expect(trait.samples(stem: "n\(number)").allSatisfy { !read.matches($0[...]) }, "\(trait)")
    }
    #expect(
      NameTrait.webServerFile.applies(to: Array(".HtPasswd".utf8)[...]) && !NameTrait.webServerFile.applies(to: Array(".h".utf8)[...]))
    #expect(!NameTrait.webServerFile.applies(to: Array(".\u{8}\u{14}x".utf8)[...]))
  }

  @Test func whatAnotherTraitCoversIsLeftOut() {
    #expect(NameTrait.essential([.leadingDot, .webServerFile, .upperCase]) == [.leadingDot, .upperCase])
    #expect(NameTrait.essential([.nonASCII, .composed, .webServerFile]) == [.nonASCII, .webServerFile])
  }

  @Test func itIsWrittenAndReadBack() throws {
    let data = try JSONEncoder().encode(NameTrait.asked)
    #expect(try JSONDecoder().decode([NameTrait].self, from: data) == NameTrait.asked)
    for text in [#"[":;"]"#, #"[""]"#, #"["é"]"#, #"[1]"#] {
      #expect(throws: DecodingError.self) { try JSONDecoder().decode([NameTrait].self, from: Data(text.utf8)) }
    }
  }
}
