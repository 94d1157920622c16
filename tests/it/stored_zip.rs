//! Zip archives of stored files, as `PyTorch` writes its weights: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>.

/// An archive of these files, by name.
pub(crate) fn write(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let size = (content.len() as u32).to_le_bytes();
        let mut facts = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        facts.extend([crc32fast::hash(content).to_le_bytes(), size, size].concat());
        facts.extend([name.len() as u8, 0, 0, 0]);
        let begin = (bytes.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\x00", &facts[..], &[0; 10], &begin, name.as_bytes()].concat());
        bytes.extend([b"PK\x03\x04", &facts[..], name.as_bytes(), content].concat());
    }
    let [begin, size] = [bytes.len(), directory.len()].map(|number| (number as u32).to_le_bytes());
    let count = (files.len() as u16).to_le_bytes();
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &begin, &[0, 0]].concat());
    bytes
}

/// The files of an archive that has no comment and no 64-bit sizes.
pub(crate) fn read(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let end = bytes.len() - 22;
    let mut at = number(end + 16, 4);
    let files = (0..number(end + 10, 2)).map(|_| {
        let name = String::from_utf8(bytes[at + 46..][..number(at + 28, 2)].to_vec()).unwrap();
        let local = number(at + 42, 4);
        let begin = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let content = bytes[begin..][..number(at + 24, 4)].to_vec();
        at += 46 + number(at + 28, 2) + number(at + 30, 2) + number(at + 32, 2);
        (name, content)
    });
    files.collect()
}

#[test]
fn files_come_out_of_an_archive_as_they_went_in() {
    let files = read(include_bytes!("opt_tiny/pytorch_model.bin"));
    assert!(files.iter().any(|(name, content)| name == "pytorch_model/data.pkl" && content.len() == 1971));
    assert_eq!(read(&write(&files)), files);
}
