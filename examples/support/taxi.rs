//! Makes data in the shape of New York's yellow taxi trips of 2009: one Parquet shard a month, the same for a seed.
//!
//! For examples and benches, which include this file by `#[path]`. The values are invented; names, types, nulls and
//! rough distributions follow the published files.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Makes one shard for each of the first `months` of 2009 in `folder`, with `rows` rows each; gives their paths.
pub(crate) fn write_shards(folder: &Path, months: u32, rows: usize, seed: u64) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    (1..=months).map(|month| write_month(folder, month, rows, seed)).collect()
}

/// Makes the shard of one month (1 to 12).
pub(crate) fn write_month(folder: &Path, month: u32, rows: usize, seed: u64) -> Result<PathBuf, Box<dyn Error>> {
    let path = folder.join(format!("yellow_tripdata_2009-{month:02}.parquet"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(File::create(&path)?, schema(), Some(properties))?;
    let mut random = SmallRng::seed_from_u64(seed ^ (u64::from(month) << 32));
    let mut left = rows;
    while left > 0 {
        let trips: Vec<Trip> = (0..left.min(BATCH_ROWS)).map(|_| Trip::invent(month, &mut random)).collect();
        writer.write(&batch(&trips)?)?;
        left -= trips.len();
    }
    writer.close()?;
    Ok(path)
}

/// Columns of a shard.
pub(crate) fn schema() -> SchemaRef {
    let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

const COLUMNS: [(&str, DataType); 18] = [
    ("vendor_name", DataType::Utf8),
    ("Trip_Pickup_DateTime", DataType::Utf8),
    ("Trip_Dropoff_DateTime", DataType::Utf8),
    ("Passenger_Count", DataType::Int64),
    ("Trip_Distance", DataType::Float64),
    ("Start_Lon", DataType::Float64),
    ("Start_Lat", DataType::Float64),
    ("Rate_Code", DataType::Float64),
    ("store_and_forward", DataType::Float64),
    ("End_Lon", DataType::Float64),
    ("End_Lat", DataType::Float64),
    ("Payment_Type", DataType::Utf8),
    ("Fare_Amt", DataType::Float64),
    ("surcharge", DataType::Float64),
    ("mta_tax", DataType::Float64),
    ("Tip_Amt", DataType::Float64),
    ("Tolls_Amt", DataType::Float64),
    ("Total_Amt", DataType::Float64),
];

/// Several row groups in a shard of a million rows, so that a shard can be read by several workers.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Rows invented at once.
const BATCH_ROWS: usize = 16 * 1024;

struct Trip {
    vendor: &'static str,
    pickup: String,
    dropoff: String,
    passengers: i64,
    miles: f64,
    start: (f64, f64),
    end: (f64, f64),
    payment: &'static str,
    fare: f64,
    surcharge: f64,
    tip: f64,
    tolls: f64,
}

impl Trip {
    fn invent(month: u32, random: &mut SmallRng) -> Self {
        let miles = cents(0.3 + 12.0 * random.random::<f64>().powi(3));
        let seconds = (miles * random.random_range(150.0..420.0)) as u64;
        // The last hours of a month stay free, so that no trip ends in the next one.
        let from = random.random_range(0..(days(month) - 1) * DAY);
        let payment = pick(&["CASH", "Cash", "CREDIT", "Credit"], &[45, 80, 90, 100], random);
        let fare = (2.5 + 2.2 * miles).round();
        let start = (near(-73.98, random), near(40.75, random));
        Self {
            vendor: pick(&["VTS", "CMT", "DDS"], &[48, 94, 100], random),
            pickup: date_time(month, from),
            dropoff: date_time(month, from + seconds),
            passengers: pick(&[1, 2, 3, 4, 5, 6], &[66, 82, 86, 88, 97, 100], random),
            miles,
            start,
            end: (near(start.0, random), near(start.1, random)),
            payment,
            fare,
            surcharge: pick(&[0.0, 0.5, 1.0], &[55, 90, 100], random),
            tip: if payment.eq_ignore_ascii_case("credit") { cents(fare * 0.18) } else { 0.0 },
            tolls: pick(&[0.0, 4.15], &[97, 100], random),
        }
    }

    fn total(&self) -> f64 {
        cents(self.fare + self.surcharge + self.tip + self.tolls)
    }
}

/// One of `choices`, by rising shares of a hundred.
fn pick<T: Copy>(choices: &[T], upto: &[u32], random: &mut SmallRng) -> T {
    let drawn = random.random_range(0..100);
    let index = upto.iter().position(|limit| drawn < *limit).expect("the last share is a hundred");
    choices[index]
}

fn cents(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A coordinate near `middle`.
fn near(middle: f64, random: &mut SmallRng) -> f64 {
    let away: f64 = random.random_range(-0.04..0.04);
    ((middle + away) * 10_000.0).round() / 10_000.0
}

const DAY: u64 = 24 * 3600;

fn days(month: u32) -> u64 {
    match month {
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `2009-01-04 02:52:00`, so many seconds into a month.
fn date_time(month: u32, seconds: u64) -> String {
    let (day, hour) = (seconds / DAY + 1, seconds % DAY / 3600);
    format!("2009-{month:02}-{day:02} {hour:02}:{:02}:{:02}", seconds % 3600 / 60, seconds % 60)
}

fn batch(trips: &[Trip]) -> Result<RecordBatch, Box<dyn Error>> {
    let text = |value: fn(&Trip) -> &str| Arc::new(StringArray::from_iter_values(trips.iter().map(value))) as ArrayRef;
    let float = |value: fn(&Trip) -> f64| Arc::new(Float64Array::from_iter_values(trips.iter().map(value))) as ArrayRef;
    let null = || Arc::new(Float64Array::new_null(trips.len())) as ArrayRef;
    let passengers = Arc::new(Int64Array::from_iter_values(trips.iter().map(|trip| trip.passengers))) as ArrayRef;
    let columns = vec![
        text(|trip| trip.vendor),
        text(|trip| &trip.pickup),
        text(|trip| &trip.dropoff),
        passengers,
        float(|trip| trip.miles),
        float(|trip| trip.start.0),
        float(|trip| trip.start.1),
        null(),
        null(),
        float(|trip| trip.end.0),
        float(|trip| trip.end.1),
        text(|trip| trip.payment),
        float(|trip| trip.fare),
        float(|trip| trip.surcharge),
        null(),
        float(|trip| trip.tip),
        float(|trip| trip.tolls),
        float(Trip::total),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
