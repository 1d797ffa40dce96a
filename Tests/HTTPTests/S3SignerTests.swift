import Testing
import TransportHTTP

/// The examples of Amazon's documents ("Signature Calculations for the Authorization Header").
@Suite struct S3SignerTests {
  static let signer = S3Signer(
    credentials: S3Credentials(accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    region: "us-east-1", host: "examplebucket.s3.amazonaws.com")
  /// 2013-05-24T00:00:00Z.
  static let moment: Int64 = 1_369_353_600

  static let examples: [(request: HTTPRequest, names: String, signature: String)] = [
    (
      HTTPRequest("GET", "/test.txt", headers: [("Range", "bytes=0-9"), ("x-amz-content-sha256", S3Signer.emptyHash)]),
      "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    ),
    (
      HTTPRequest(
        "PUT", "/test%24file.text",
        headers: [
          ("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
          ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ]), "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    ),
    (
      HTTPRequest("GET", "/?lifecycle=", headers: [("x-amz-content-sha256", S3Signer.emptyHash)]), "host;x-amz-content-sha256;x-amz-date",
      "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    ),
    (
      HTTPRequest("GET", "/?max-keys=2&prefix=J", headers: [("x-amz-content-sha256", S3Signer.emptyHash)]),
      "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    ),
  ]

  @Test(arguments: examples.indices) func theExamplesOfAmazon(_ index: Int) throws {
    let example = Self.examples[index]
    let lines = Dictionary(uniqueKeysWithValues: Self.signer.lines(for: example.request, at: Self.moment).map { ($0.name, $0.value) })
    #expect(lines["x-amz-date"] == "20130524T000000Z")
    #expect(
      lines["Authorization"]
        == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=\(example.names),Signature=\(example.signature)"
    )
  }

  /// What the signature covers: nothing of it can be changed on the way.
  @Test func everythingIsSigned() throws {
    func signature(
      _ method: String = "PUT", _ target: String = "/a?b=c", hash: String = "00", token: String? = nil, region: String = "r",
      host: String = "h", at seconds: Int64 = 1
    ) -> String {
      let credentials = S3Credentials(accessKeyID: "id", secretAccessKey: "key", sessionToken: token)
      let request = HTTPRequest(method, target, headers: [("x-amz-content-sha256", hash)])
      return S3Signer(credentials: credentials, region: region, host: host).lines(for: request, at: seconds).last?.value.suffix(64)
        .description ?? ""
    }
    let all = [
      signature(), signature("GET"), signature("PUT", "/b?b=c"), signature("PUT", "/a?b=d"), signature(hash: "01"), signature(token: "t"),
      signature(region: "s"), signature(host: "i"), signature(at: 2),
    ]
    #expect(Set(all).count == all.count)
    #expect(signature() == signature())
  }

  @Test(arguments: [
    (0, "19700101T000000Z"), (951_827_696, "20000229T123456Z"), (1_709_251_199, "20240229T235959Z"), (4_102_444_800, "21000101T000000Z"),
    (-1, "19691231T235959Z"),
  ] as [(Int64, String)]) func times(seconds: Int64, text: String) {
    let request = HTTPRequest("GET", "/", headers: [])
    #expect(Self.signer.lines(for: request, at: seconds).first?.value == text)
  }
}
