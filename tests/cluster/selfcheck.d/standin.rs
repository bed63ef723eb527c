//! Stands in for the program in the check of the cluster itself: answers every HTTP request with the name of its pod
//! and the address that the request came from. Linked as the program is: dynamically, with the C library of the machine.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let command = std::env::args().nth(1).unwrap_or_default();
    assert_eq!(command, "serve", "the image's default command");
    let listen = std::env::var("TIDEGATE_HTTP_LISTEN").expect("the image's environment");
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let listener = TcpListener::bind(&listen)?;
    println!("listening on {listen}");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let Ok(peer) = stream.peer_addr() else { continue };
        let request = BufReader::new(&stream).lines().map_while(Result::ok);
        if request.take_while(|line| !line.is_empty()).count() == 0 {
            continue;
        }
        let from = peer.ip().to_canonical();
        let body = format!("pod={pod} client={from}\n");
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    Ok(())
}
