use std::io;
use std::string::ToString;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::commands::GetRandom;
use crate::{Fault, Tpm};

/// Says the given answers, one a command, and counts.
struct Script {
    answers: Vec<Vec<u8>>,
    said: usize,
}

impl Transport for Script {
    type Error = io::Error;

    fn exchange(&mut self, _: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let answer = self.answers.get(self.said).ok_or(io::ErrorKind::BrokenPipe)?;
        self.said += 1;
        response[..answer.len()].copy_from_slice(answer);
        Ok(answer.len())
    }
}

fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

fn four_random_octets() -> Vec<u8> {
    vec![0x80, 0x01, 0, 0, 0, 16, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]
}

#[test]
fn only_commands_that_did_not_execute_are_sent_again() {
    for again in [0x922, 0x908, 0x90a] {
        let answers = vec![refusal(again), refusal(again), four_random_octets()];
        let mut tpm = Tpm::new(Retry::new(Script { answers, said: 0 }));
        let answer = tpm.run(&GetRandom { bytes_requested: 4 }, []).unwrap();
        assert_eq!(answer.random_bytes.octets(), [1, 2, 3, 4]);
    }
    for never in [0x921, 0x98e, 0x9a2, 0x101] {
        let answers = vec![refusal(never), four_random_octets()];
        let mut tpm = Tpm::new(Retry::new(Script { answers, said: 0 }));
        let error = tpm.run(&GetRandom { bytes_requested: 4 }, []).unwrap_err();
        assert!(matches!(error.fault(), Fault::Refused(code) if code.0 == never), "{error}");
    }
}

/// What an earlier answer left in the buffer is no part of the next one.
#[test]
fn an_answer_that_is_cut_short_is_not_taken_for_the_one_before() {
    let answers = vec![refusal(0x922), vec![0x80, 0x01, 0, 0], four_random_octets()];
    let mut tpm = Tpm::new(Retry::new(Script { answers, said: 0 }));
    let error = tpm.run(&GetRandom { bytes_requested: 4 }, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
}

#[test]
fn log_sees_each_exchange_and_each_failure() {
    let script = Script { answers: vec![four_random_octets()], said: 0 };
    let mut seen = Vec::new();
    let mut log = Log::new(script, |command: &[u8], answer: Result<&[u8], &io::Error>| {
        seen.push((command.to_vec(), answer.map(<[u8]>::to_vec).map_err(io::Error::kind)));
    });
    let mut response = [0; 64];
    assert_eq!(log.exchange(b"first", &mut response).unwrap(), four_random_octets().len());
    log.exchange(b"second", &mut response).unwrap_err();
    let first = (b"first".to_vec(), Ok(four_random_octets()));
    assert_eq!(seen, [first, (b"second".to_vec(), Err(io::ErrorKind::BrokenPipe))]);
}

#[test]
fn a_transport_that_claims_more_than_there_is_room_for_is_not_believed() {
    struct Boaster;
    impl Transport for Boaster {
        type Error = io::Error;

        fn exchange(&mut self, _: &[u8], response: &mut [u8]) -> io::Result<usize> {
            Ok(response.len() + 1)
        }
    }
    let error = Tpm::new(Boaster).run(&GetRandom { bytes_requested: 4 }, []).map(|_| ());
    assert!(matches!(error.unwrap_err().fault(), Fault::Malformed(_)));
}

#[test]
fn after_a_failure_on_the_way_the_client_says_nothing_more() {
    let mut tpm = Tpm::new(Script { answers: vec![], said: 0 });
    let run = |tpm: &mut Tpm<Script>| tpm.run(&GetRandom { bytes_requested: 4 }, []).map(|_| ());
    assert!(matches!(run(&mut tpm).unwrap_err().fault(), Fault::Transport));
    assert!(matches!(run(&mut tpm).unwrap_err().fault(), Fault::Poisoned));
}

#[test]
fn every_truncation_and_every_changed_octet_of_an_answer_is_refused_or_harmless() {
    let whole = four_random_octets();
    let ask = |answer: Vec<u8>| {
        let mut tpm = Tpm::new(Script { answers: vec![answer], said: 0 });
        tpm.run(&GetRandom { bytes_requested: 4 }, [])
            .map(|answer| answer.random_bytes.octets().len())
    };
    for len in 0..whole.len() {
        assert!(matches!(ask(whole[..len].to_vec()).unwrap_err().fault(), Fault::Malformed(_)));
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(len) = ask(changed.clone()) {
                assert_eq!(len, 4, "{changed:02x?}");
            }
        }
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(ask(longer).is_err());
}

#[test]
fn addresses_are_those_of_the_tss() {
    for (text, canonical) in [
        ("device:/dev/tpmrm0", "device:/dev/tpmrm0"),
        ("/dev/tpm0", "device:/dev/tpm0"),
        ("device:", "device:/dev/tpmrm0"),
        ("swtpm:path=/run/x", "swtpm:path=/run/x"),
        ("swtpm:host=::1,port=99", "swtpm:host=::1,port=99"),
        ("swtpm:port=99", "swtpm:host=localhost,port=99"),
        ("swtpm", "swtpm:host=localhost,port=2321"),
        ("mssim", "mssim:host=localhost,port=2321"),
        ("mssim:host=::1,port=99", "mssim:host=::1,port=99"),
        ("cmd:ssh a: tpm2_send", "cmd:ssh a: tpm2_send"),
        ("tbs", "tbs"),
    ] {
        assert_eq!(text.parse::<Tcti>().unwrap().to_string(), canonical);
    }
    for wrong in [
        "",
        "tabrmd:",
        "tabrmd:bus_name=com.example",
        "libtpms:",
        "pcap:device:/dev/tpm0",
        "mssim:path=/run/x",
        "mssim:port=65535",
        "mssim:port=0x",
        "cmd:",
        "cmd",
        "tbs:1",
        "device:tpm0",
        "swtpm:port=x",
        "swtpm:port=70000",
        "swtpm:path=",
        "swtpm:path=/a,port=1",
        "swtpm:port=1,port=2",
        "swtpm:speed=1",
        "swtpm:path",
    ] {
        assert!(wrong.parse::<Tcti>().is_err(), "{wrong}");
    }
}

#[test]
fn address_comes_from_the_variable_of_tpm2_tools_then_from_that_of_the_tss() {
    let with = |tools: Option<&str>, tss: Option<&str>| {
        let value = |name| if name == "TPM2TOOLS_TCTI" { tools } else { tss };
        Tcti::from_variables(|name| value(name).map(Into::into))
    };
    let [a, b] = ["swtpm:path=/a", "swtpm:path=/b"];
    assert_eq!(with(Some(a), Some(b)), a.parse());
    assert_eq!(with(None, Some(b)), b.parse());
    assert_eq!(with(None, None), Tcti::DEFAULT.parse());
    let error = with(Some("tabrmd:"), Some(b)).unwrap_err();
    assert!(error.to_string().starts_with("TPM2TOOLS_TCTI: tabrmd is not supported"), "{error}");
}

#[test]
fn address_that_this_build_cannot_open_is_refused_with_advice() {
    let error = Tcti::Tbs.open().err().unwrap();
    assert_eq!(format!("{error:#}"), "cannot open the TPM at tbs: not part of this build");
    assert!(error.advice().contains("tbs on Windows"));
}

#[test]
fn a_device_that_is_not_there_is_said_with_advice() {
    let tcti: Tcti = "device:/nonexistent/tpmrm0".parse().unwrap();
    let error = tcti.open().err().unwrap();
    assert!(error.to_string().starts_with("cannot open the TPM at device:/nonexistent/tpmrm0"));
    assert!(error.advice().contains("firmware settings"));
}

#[test]
fn a_file_in_the_place_of_a_device_stays_as_it_is() {
    let path = std::env::temp_dir().join(std::format!("tpm2-file-{}", std::process::id()));
    std::fs::write(&path, "another program's").unwrap();
    let tcti: Tcti = std::format!("device:{}", path.display()).parse().unwrap();
    let error = tcti.open().err().unwrap();
    assert!(error.cause().to_string().ends_with("not a character device"), "{error:?}");
    assert!(error.advice().contains("/dev/tpmrm0"));
    assert_eq!(std::fs::read(&path).unwrap(), b"another program's");
    std::fs::remove_file(&path).unwrap();
}

/// What a driver in another state does to one write and one read: nothing to read, no room to write.
#[test]
fn a_device_that_takes_or_gives_nothing_is_an_error_of_the_way() {
    let ask = |path: &str| {
        let device = Device::open(std::path::Path::new(path)).unwrap();
        assert!(!device.is_managed());
        let mut tpm = Tpm::new(device);
        let error = tpm.run(&GetRandom { bytes_requested: 4 }, []).map(|_| ()).unwrap_err();
        let again = tpm.run(&GetRandom { bytes_requested: 4 }, []).map(|_| ()).unwrap_err();
        assert!(matches!(again.fault(), Fault::Poisoned), "{again}");
        error.transport().unwrap().kind()
    };
    assert_eq!(ask("/dev/null"), io::ErrorKind::UnexpectedEof);
    assert_eq!(ask("/dev/full"), io::ErrorKind::StorageFull);
}

#[test]
fn an_answer_that_claims_less_than_a_header_or_more_than_a_buffer_is_no_answer() {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    let directory = std::env::temp_dir().join(std::format!("tpm2-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for size in [0_u32, 9, 4097, u32::MAX] {
        let mut client = Swtpm::connect_unix(&path).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[0x80, 0x01]).unwrap();
        server.write_all(&size.to_be_bytes()).unwrap();
        server.write_all(&[0; 64]).unwrap();
        let error = client.exchange(&[0; 10], &mut [0; 4096]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size}");
    }
    let mut client = Swtpm::connect_unix(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(&[0x80, 0x01, 0, 0, 0, 20, 0]).unwrap();
    drop(server);
    let error = client.exchange(&[0; 10], &mut [0; 4096]).unwrap_err();
    assert!(matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    ));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A bus that delivers an octet now and then.
#[test]
fn answer_that_comes_octet_by_octet_ends_at_the_deadline_of_the_command() {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        let header = [0x80, 0x01, 0, 0, 0x10, 0];
        for octet in header.into_iter().chain(std::iter::repeat_n(0, 0xffa)) {
            std::thread::sleep(Duration::from_millis(10));
            if client.write_all(&[octet]).is_err() {
                return false;
            }
        }
        true
    });
    let mut client = Swtpm::connect("127.0.0.1", port).unwrap();
    client = client.with_timeout(Duration::from_millis(100));
    let error = client.exchange(&[0; 10], &mut [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    drop(client);
    assert!(!server.join().unwrap(), "the whole answer was waited for");
}

/// A server that executes a command and hangs up instead of answering.
#[test]
fn command_that_was_read_is_not_sent_again() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    let directory = std::env::temp_dir().join(std::format!("tpm2-read-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.read_exact(&mut [0; 12]).unwrap();
        client.write_all(&four_random_octets()).unwrap();
        client.read_exact(&mut [0; 12]).unwrap();
        drop(client);
        // Only a command that is sent again makes another connection, and whoever ends the test makes one that says nothing.
        listener.accept().unwrap().0.read(&mut [0; 12]).unwrap()
    });
    let mut client = Swtpm::connect_unix(&path).unwrap();
    client.exchange(&[0; 12], &mut [0; 4096]).unwrap();
    let error = client.exchange(&[0; 12], &mut [0; 4096]).unwrap_err();
    assert_eq!(error.to_string(), "swtpm hung up before the end of its answer");
    drop(Swtpm::connect_unix(&path).unwrap());
    assert_eq!(server.join().unwrap(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A server that answers so many commands on each connection, and then hangs up.
#[cfg(feature = "std")]
#[test]
fn server_that_hangs_up_after_each_answer_is_connected_to_again() {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    for answers in [1, 2] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut commands = 0;
            while commands < 6 {
                let (mut client, _) = listener.accept().unwrap();
                for _ in 0..answers {
                    client.read_exact(&mut [0; 12]).unwrap();
                    client.write_all(&four_random_octets()).unwrap();
                    commands += 1;
                }
            }
            // The last one hangs up in the middle of a command, on a new connection: that is a failure.
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0; 12]).unwrap();
        });
        let mut tpm = Tpm::new(Swtpm::connect("127.0.0.1", port).unwrap());
        let mut run = || tpm.run(&GetRandom { bytes_requested: 4 }, []).map(drop);
        for _ in 0..6 {
            run().unwrap();
        }
        assert!(matches!(run().unwrap_err().fault(), Fault::Transport));
        server.join().unwrap();
    }
}

/// What a simulator may answer, and what becomes of it.
#[cfg(feature = "mssim")]
#[test]
fn simulator_that_breaks_its_protocol_is_an_error_of_the_transport() {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::Simulator;

    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let (commands, platform) = (28_000..30_000)
        .step_by(2)
        .find_map(|port| listen(port).ok().zip(listen(port + 1).ok()))
        .unwrap();
    let port = commands.local_addr().unwrap().port();
    let answer = four_random_octets();
    let size = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
    let whole = [&size(answer.len()), &answer[..], &[0; 4]].concat();
    let ask = |powered: [u8; 4], said: &[u8]| {
        let (platform, commands) = (&platform, &commands);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut client = platform.accept().unwrap().0;
                for _ in 0..2 {
                    if client.read_exact(&mut [0; 4]).is_err()
                        || client.write_all(&powered).is_err()
                    {
                        return;
                    }
                }
            });
            scope.spawn(move || {
                let mut client = commands.accept().unwrap().0;
                if client.read_exact(&mut [0; 21]).is_ok() {
                    client.write_all(said).unwrap();
                }
            });
            let mut simulator = Simulator::connect("127.0.0.1", port)?;
            simulator.exchange(&[7; 12], &mut [0; 4096])
        })
    };
    assert_eq!(ask([0; 4], &whole).unwrap(), answer.len());
    let kind = |powered, said: &[u8]| ask(powered, said).unwrap_err().kind();
    assert_eq!(kind([0, 0, 0, 1], &whole), io::ErrorKind::InvalidData);
    assert_eq!(kind([0; 4], &size(0)), io::ErrorKind::InvalidData);
    assert_eq!(kind([0; 4], &size(4097)), io::ErrorKind::InvalidData);
    assert_eq!(kind([0; 4], &[0xff; 4]), io::ErrorKind::InvalidData);
    let [cut, bad_end] = [&whole[..whole.len() - 1], &[&whole[..whole.len() - 1], &[1]].concat()];
    assert_eq!(kind([0; 4], cut), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind([0; 4], bad_end), io::ErrorKind::InvalidData);
}
