//! What separates the fields of a CSV file, by its first lines.
//!
//! A file with `;` between its fields would be read as one with a single column, and without a word. So the first lines
//! decide where nobody has said it: a comma if it splits all of them into the same number of fields, otherwise whatever
//! else does, and a comma where nothing does. The answer becomes an option of the format, and travels with the scan.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// The option of the format.
const OPTION: &str = "format.delimiter";
/// What may separate fields, the first choice first.
const KNOWN: [u8; 4] = [b',', b';', b'\t', b'|'];
/// Bytes that are looked at.
const BYTES: usize = 64 << 10;
/// Lines that are looked at.
const LINES: usize = 100;

/// Adds to a format's options what separates the fields of these files, where the options do not say it and it is no
/// comma. A file that cannot be read says nothing; reading its columns will say why.
pub async fn add(options: &mut HashMap<String, String>, store: &Arc<dyn ObjectStore>, files: &[ObjectMeta]) {
    if options.keys().any(|key| key.to_lowercase().ends_with("delimiter")) {
        return;
    }
    let method = options.iter().find(|(key, _)| key.eq_ignore_ascii_case("format.compression"));
    let method = method.and_then(|(_, name)| FileCompressionType::from_str(name).ok());
    let Some(file) = files.iter().find(|file| file.size > 0) else { return };
    let Ok((head, whole)) = head(store, file, method.unwrap_or(FileCompressionType::UNCOMPRESSED)).await else {
        return;
    };
    let found = of(&head, whole);
    if found != b',' {
        options.insert(OPTION.into(), char::from(found).to_string());
    }
}

/// The same for the files at locations of a table.
pub async fn add_of(options: &mut HashMap<String, String>, state: &SessionState, locations: &[String]) {
    for location in locations {
        let Ok(url) = ListingTableUrl::parse(location) else { continue };
        let Ok(store) = state.runtime_env().object_store(url.object_store()) else { continue };
        let Ok(files) = url.list_all_files(state, store.as_ref(), "").await else { continue };
        let first = files.try_filter(|file| std::future::ready(file.size > 0)).boxed().try_next().await;
        if let Ok(Some(first)) = first {
            return add(options, &store, &[first]).await;
        }
    }
}

/// The beginning of a file, and whether that is all of it.
async fn head(
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
    method: FileCompressionType,
) -> DataFusionResult<(Vec<u8>, bool)> {
    let bytes = store.get(&file.location).await?.into_stream().map_err(DataFusionError::from);
    let mut bytes = method.convert_stream(bytes.boxed())?;
    let mut head = Vec::new();
    while let Some(more) = bytes.try_next().await? {
        head.extend_from_slice(&more);
        if head.len() > BYTES {
            head.truncate(BYTES);
            return Ok((head, false));
        }
    }
    Ok((head, true))
}

/// What separates the fields of a file that begins so.
fn of(head: &[u8], whole: bool) -> u8 {
    let fields = |delimiter: u8| regular(head, whole, delimiter).map(|fields| (fields, delimiter));
    if fields(b',').is_some() {
        return b',';
    }
    // Of several the one with the most fields, the first of them where these are as many.
    let best = KNOWN.iter().rev().filter_map(|delimiter| fields(*delimiter)).max_by_key(|(fields, _)| *fields);
    best.map_or(b',', |(_, delimiter)| delimiter)
}

/// The number of fields in each line, if it is the same in all of them and more than one. What stands in quotes belongs
/// to its field, line ends too.
fn regular(head: &[u8], whole: bool, delimiter: u8) -> Option<usize> {
    let (mut known, mut lines) = (None, 0);
    let (mut fields, mut empty, mut quoted) = (1, true, false);
    // The last line may have been cut.
    let end = if whole { Some(b'\n') } else { None };
    for byte in head.iter().copied().chain(end) {
        match byte {
            b'"' => (quoted, empty) = (!quoted, false),
            _ if quoted => {}
            b'\n' => {
                if !empty {
                    if fields < 2 || known.is_some_and(|known| known != fields) {
                        return None;
                    }
                    (known, lines) = (Some(fields), lines + 1);
                }
                if lines == LINES {
                    break;
                }
                (fields, empty) = (1, true);
            }
            b'\r' => {}
            byte => {
                fields += usize::from(byte == delimiter);
                empty = false;
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_tell() {
        let tell = |text: &str| char::from(of(text.as_bytes(), true));
        for (text, delimiter) in [
            ("a,b\n1,2\n", ','),
            ("a;b\n1,5;2\n", ';'),
            ("a\tb\r\n1\t2\r\n\r\n", '\t'),
            ("a|b|c\n1;2|3|4", '|'),
            ("a;b", ';'),
            // In quotes it is text, and so are line ends.
            ("a;b\n\"x;y\nz\";2\n", ';'),
            ("a,b\n\"1;\",\"2;\"\n", ','),
            // A comma wins where it splits all lines.
            ("a;x,b;y\n1;2,3;4\n", ','),
            // One column, lines of different lengths, nothing.
            ("a\n1\n", ','),
            ("a;b\n1;2;3\n", ','),
            ("", ','),
        ] {
            assert_eq!(tell(text), delimiter, "{text:?}");
        }
        // A line that was cut does not count.
        assert_eq!(of(b"a;b\n1;2\n3", false), b';');
    }
}
