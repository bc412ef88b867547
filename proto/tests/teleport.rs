//! Messages of Teleport's services from bytes that another implementation made.

// Said once more for the lints, which are milder in tests.
#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::teleport::Timestamp;
    use proto::teleport::join_v1::*;
    use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek as LegacyEk;
    use proto::teleport::legacy::register_using_tpm_method_request::Payload as LegacyRequest;
    use proto::teleport::legacy::register_using_tpm_method_response::Payload as LegacyResponse;
    use proto::teleport::legacy::{
        Certs, RegisterUsingTpmMethodChallengeResponse, RegisterUsingTpmMethodInitialRequest,
        RegisterUsingTpmMethodRequest, RegisterUsingTpmMethodResponse, TpmAttestationParameters,
    };
    use proto::teleport::types::RegisterUsingTokenRequest;
    use proto::teleport::workloadidentity_v1::{
        Credential, IssueWorkloadIdentitiesRequest, IssueWorkloadIdentitiesResponse,
        IssueWorkloadIdentityRequest, IssueWorkloadIdentityResponse, JwtsvidCredential,
        JwtsvidParams, LabelSelector, X509svidCredential, X509svidParams,
    };
    use proto::teleport::{join_v1, legacy};

    const GOLDEN: &str = include_str!("../testdata/teleport.txt");

    /// A field that no version of the messages has: number 2047, a string.
    const UNKNOWN: &[u8] = b"\xfa\x7f\x05later";

    fn golden(name: &str) -> Vec<u8> {
        let lines = GOLDEN.lines().filter_map(|line| line.split_once(' '));
        let (_, hex) = lines.into_iter().find(|(found, _)| *found == name).expect(name);
        base16ct::lower::decode_vec(hex).unwrap()
    }

    /// The bytes say this message, with unknown fields too; if they have no others, the message is encoded so.
    fn says<M: Message + Default + PartialEq + std::fmt::Debug>(
        name: &str,
        message: &M,
        has_unknown: bool,
    ) {
        let bytes = golden(name);
        assert_eq!(M::decode(bytes.as_slice()).unwrap(), *message, "{name}");
        assert_eq!(message.encode_to_vec() == bytes, !has_unknown, "{name}");
        let longer = [bytes.as_slice(), UNKNOWN].concat();
        assert_eq!(M::decode(longer.as_slice()).unwrap(), *message, "{name} and an unknown field");
    }

    fn request(payload: join_request::Payload) -> JoinRequest {
        JoinRequest { payload: Some(payload) }
    }

    fn response(payload: join_response::Payload) -> JoinResponse {
        JoinResponse { payload: Some(payload) }
    }

    fn expires() -> Timestamp {
        Timestamp { seconds: 1_800_000_000, nanos: 5 }
    }

    #[test]
    fn requests_of_the_newer_service() {
        use join_request::Payload;
        let client_init = ClientInit {
            join_method: Some("tpm".into()),
            token_name: "t".into(),
            system_role: "Bot".into(),
            forwarded_by_proxy: true,
            proxy_supplied_parameters: Some(client_init::ProxySuppliedParams {
                remote_addr: "192.0.2.1:7".into(),
                client_version: "18.0.0".into(),
            }),
        };
        says("client_init", &request(Payload::ClientInit(client_init)), false);
        let client_init = ClientInit {
            token_name: "t".into(),
            system_role: "Bot".into(),
            ..ClientInit::default()
        };
        says("client_init_without_method", &request(Payload::ClientInit(client_init)), false);

        let keys = PublicKeys { public_tls_key: b"tls".to_vec(), public_ssh_key: b"ssh".to_vec() };
        let params = |expires| ClientParams {
            payload: Some(client_params::Payload::BotParams(BotParams {
                public_keys: Some(keys.clone()),
                expires,
            })),
        };
        let init = |client_params, ek| {
            request(Payload::TpmInit(TpmInit {
                client_params: Some(client_params),
                public: b"public".to_vec(),
                create_data: b"data".to_vec(),
                create_attestation: b"attest".to_vec(),
                create_signature: b"sig".to_vec(),
                ek: Some(ek),
            }))
        };
        let certificate = tpm_init::Ek::EkCert(b"cert".to_vec());
        let key = tpm_init::Ek::EkKey(b"key".to_vec());
        says("tpm_init_certificate", &init(params(Some(expires())), certificate), false);
        says("tpm_init_key", &init(params(None), key.clone()), false);
        says("tpm_init_of_a_host", &init(ClientParams { payload: None }, key), true);

        let solution = TpmSolution { solution: b"\x00\x01secret".to_vec() };
        let solution = challenge_solution::Payload::TpmSolution(solution);
        let solution = ChallengeSolution { payload: Some(solution) };
        says("solution", &request(Payload::Solution(solution)), false);
        let given_up = GivingUp {
            reason: giving_up::Reason::ChallengeSolutionFailed.into(),
            msg: "why".into(),
        };
        says("giving_up", &request(Payload::GivingUp(given_up)), false);
        says("token_init", &JoinRequest { payload: None }, true);
    }

    #[test]
    fn responses_of_the_newer_service() {
        use join_response::Payload;
        let init = ServerInit {
            join_method: "tpm".into(),
            signature_algorithm_suite: "balanced-v1".into(),
        };
        says("server_init", &response(Payload::Init(init)), false);
        let credential = join_v1::TpmEncryptedCredential {
            credential_blob: b"blob".to_vec(),
            secret: b"seed".to_vec(),
        };
        let credential = challenge::Payload::TpmEncryptedCredential(credential);
        let challenge = Challenge { payload: Some(credential) };
        says("challenge", &response(Payload::Challenge(challenge)), false);
        let certificates = Certificates {
            tls_cert: b"leaf".to_vec(),
            tls_ca_certs: vec![b"ca1".to_vec(), b"ca2".to_vec()],
            ssh_cert: b"cert".to_vec(),
            ssh_ca_keys: vec![b"k1".to_vec(), b"k2".to_vec()],
        };
        let result = result::Payload::BotResult(BotResult { certificates: Some(certificates) });
        let result = join_v1::Result { payload: Some(result) };
        says("result", &response(Payload::Result(result)), false);
    }

    #[test]
    fn messages_of_the_older_service() {
        let init = |join_request, ek| RegisterUsingTpmMethodRequest {
            payload: Some(LegacyRequest::Init(RegisterUsingTpmMethodInitialRequest {
                join_request: Some(join_request),
                ek: Some(ek),
                attestation_params: Some(TpmAttestationParameters {
                    public: b"public".to_vec(),
                    create_data: b"data".to_vec(),
                    create_attestation: b"attest".to_vec(),
                    create_signature: b"sig".to_vec(),
                }),
            })),
        };
        let bot = RegisterUsingTokenRequest {
            role: "Bot".into(),
            token: "t".into(),
            public_tls_key: b"tls".to_vec(),
            public_ssh_key: b"ssh".to_vec(),
            ..RegisterUsingTokenRequest::default()
        };
        let host = RegisterUsingTokenRequest {
            host_id: "id".into(),
            node_name: "node".into(),
            expires: Some(expires()),
            ..bot.clone()
        };
        says("legacy_init", &init(host, LegacyEk::EkCert(b"cert".to_vec())), true);
        says("legacy_init_key", &init(bot, LegacyEk::EkKey(b"key".to_vec())), false);
        let solution = b"\x00\x01secret".to_vec();
        let solution = RegisterUsingTpmMethodChallengeResponse { solution };
        let solution = LegacyRequest::ChallengeResponse(solution);
        says("legacy_solution", &RegisterUsingTpmMethodRequest { payload: Some(solution) }, false);

        let response = |payload| RegisterUsingTpmMethodResponse { payload: Some(payload) };
        let credential = legacy::TpmEncryptedCredential {
            credential_blob: b"blob".to_vec(),
            secret: b"seed".to_vec(),
        };
        says("legacy_challenge", &response(LegacyResponse::ChallengeRequest(credential)), false);
        let certs = Certs {
            ssh: b"cert".to_vec(),
            tls: b"leaf".to_vec(),
            tls_ca_certs: vec![b"ca1".to_vec(), b"ca2".to_vec()],
            ssh_ca_certs: vec![b"k1".to_vec(), b"k2".to_vec()],
        };
        says("legacy_certs", &response(LegacyResponse::Certs(certs)), false);
    }

    #[test]
    fn messages_of_the_issuance_service() {
        let x509_svid_params = Some(X509svidParams { public_key: b"key".to_vec() });
        let ttl = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let one = IssueWorkloadIdentityRequest {
            name: "web".into(),
            x509_svid_params: x509_svid_params.clone(),
            requested_ttl: ttl,
            ..IssueWorkloadIdentityRequest::default()
        };
        says("issue_workload_identity", &one, false);
        says("issue_workload_identity_as_sent", &one, true);
        let jwt = IssueWorkloadIdentityRequest {
            name: "web".into(),
            jwt_svid_params: Some(JwtsvidParams { audiences: vec!["a".into(), "b".into()] }),
            ..IssueWorkloadIdentityRequest::default()
        };
        says("issue_workload_identity_jwt", &jwt, false);
        let selector = |key: &str, values: &[&str]| LabelSelector {
            key: key.into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        let several = IssueWorkloadIdentitiesRequest {
            label_selectors: vec![selector("env", &["prod", "dev"]), selector("*", &["*"])],
            x509_svid_params,
            ..IssueWorkloadIdentitiesRequest::default()
        };
        says("issue_workload_identities", &several, false);

        let credential = Credential {
            ttl,
            expires_at: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            hint: "hint".into(),
            workload_identity_name: "web".into(),
            workload_identity_revision: "r1".into(),
            spiffe_id: "spiffe://c/web".into(),
            x509_svid: Some(X509svidCredential {
                cert: b"leaf".to_vec(),
                serial_number: "0a:0b".into(),
                chain: vec![b"ca".to_vec()],
            }),
            jwt_svid: None,
        };
        let issued = IssueWorkloadIdentityResponse { credential: Some(credential.clone()) };
        says("workload_identity_issued", &issued, false);
        let jwt = JwtsvidCredential { jwt: "x.y.z".into(), jti: "j".into() };
        let with_jwt = Credential { jwt_svid: Some(jwt), ..credential.clone() };
        let with_jwt = IssueWorkloadIdentityResponse { credential: Some(with_jwt) };
        says("workload_identity_issued_with_jwt", &with_jwt, false);
        let credentials = vec![credential.clone(), credential];
        let issued = IssueWorkloadIdentitiesResponse { credentials };
        says("workload_identities_issued", &issued, false);
    }

    #[test]
    fn secrets_are_not_shown() {
        let newer = TpmSolution { solution: b"secret".to_vec() };
        let older = RegisterUsingTpmMethodChallengeResponse { solution: b"secret".to_vec() };
        for shown in [format!("{newer:?}"), format!("{older:?}")] {
            assert!(shown.contains("6 bytes") && !shown.contains("115"), "{shown}");
        }
    }
}
